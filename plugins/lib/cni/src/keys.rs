//! The keys that a plugin reads, as data: for programs that check a configuration without running
//! the plugin. A plugin has its table beside the structures that it decodes.

/// A key, and what its value may be.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The name.
    pub name: &'static str,
    /// The values; `null` means absent everywhere.
    pub kind: Kind,
}

/// The values of a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A boolean.
    Bool,
    /// An integer between these bounds, both included.
    Number(i64, u64),
    /// A number of bytes, at most this, or `"auto"`.
    Mtu(u64),
    /// A string.
    Text,
    /// One of these strings; the empty one means absent.
    OneOf(&'static [&'static str]),
    /// An array.
    List(&'static Kind),
    /// An object with these keys.
    Object(&'static [Key]),
    /// An object whose keys are names of anything.
    Map(&'static Kind),
    /// An object whose `type` is the plugin that the rest of it is for.
    Ipam,
    /// Values of more than one type.
    Any,
}

/// A plugin's keys, in parts that several plugins can share.
pub type Keys = &'static [&'static [Key]];

/// Strings.
pub const TEXTS: Kind = Kind::List(&Kind::Text);

/// An integer of 64 bits.
pub const INTEGER: Kind = Kind::Number(i64::MIN, i64::MAX as u64);

/// `dns`, in a configuration as in a result.
pub const DNS: Kind = Kind::Object(&[
    key("nameservers", TEXTS),
    key("domain", Kind::Text),
    key("search", TEXTS),
    key("options", TEXTS),
]);

/// Routes of a result.
pub const ROUTES: Kind = Kind::List(&Kind::Object(&[
    key("dst", Kind::Text),
    key("gw", Kind::Text),
    key("mtu", Kind::Number(0, u32::MAX as u64)),
    key("advmss", Kind::Number(0, u32::MAX as u64)),
    key("priority", Kind::Number(0, u32::MAX as u64)),
    key("table", Kind::Number(0, u32::MAX as u64)),
    key("scope", Kind::Number(0, u8::MAX as u64)),
]));

/// An object with the one key `mac`, as `runtimeConfig` or `args.cni`.
pub const MAC: Kind = Kind::Object(&[key("mac", Kind::Text)]);

/// A key.
pub const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}
