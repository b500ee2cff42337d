//! Classes of `htb`.

use libc::{RTM_GETTCLASS, RTM_NEWTCLASS};
use sys::Result;

use super::{Description, Handle, NLM_F_ECHO, TCA_KIND, TCA_OPTIONS, rate, request, word};
use crate::Netlink;
use crate::attr::Malformed;
use crate::message::{NLM_F_CREATE, NLM_F_EXCL};

/// linux/pkt_sched.h, options of a class of `htb`.
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;

/// A class with a rate, which it never exceeds but for its burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateClass {
    /// In bytes per second.
    pub rate: u64,
    /// The time that its burst takes at that rate, in ticks of 64 ns.
    pub ticks: u32,
    /// The bytes that it sends at a time.
    pub quantum: u32,
}

pub(super) fn read(payload: &[u8]) -> Result<RateClass, Malformed> {
    let found = Description::read(payload)?;
    let mut class = RateClass { rate: 0, ticks: 0, quantum: 0 };
    if found.kind != "htb" {
        return Ok(class);
    }
    for attr in found.nested() {
        let attr = attr?;
        match attr.kind {
            // `struct tc_htb_opt`: rate, ceiling, u32 buffer, u32 buffer of the ceiling, u32
            // quantum, u32 level, u32 priority.
            TCA_HTB_PARMS => {
                let short = || Malformed("a class is too short");
                class.rate = class.rate.max(rate::read(attr.payload, 0).ok_or_else(short)?);
                class.ticks = word(attr.payload, 2 * rate::LENGTH).ok_or_else(short)?;
                class.quantum = word(attr.payload, 2 * rate::LENGTH + 8).ok_or_else(short)?;
            }
            TCA_HTB_RATE64 => class.rate = rate::whole(&attr)?,
            _ => {}
        }
    }
    Ok(class)
}

impl Netlink {
    /// Creates a class of the discipline of that number.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn create_class(&self, index: u32, class: Handle, settings: &RateClass) -> Result<()> {
        let discipline = class.class(0);
        let mut add = request(RTM_NEWTCLASS, NLM_F_CREATE | NLM_F_EXCL, index, discipline, class, 0);
        add.attrs.string(TCA_KIND, "htb");
        add.attrs.nest(TCA_OPTIONS, |attrs| {
            let RateClass { rate, ticks, quantum } = *settings;
            let spec = rate::spec(Some(rate));
            let numbers = [ticks, ticks, quantum, 0, 0].map(u32::to_ne_bytes).concat();
            attrs.bytes(TCA_HTB_PARMS, &[&spec, &spec, numbers.as_slice()].concat());
            if let Some(rate) = rate::beyond(rate) {
                attrs.bytes(TCA_HTB_RATE64, &rate.to_ne_bytes());
                attrs.bytes(TCA_HTB_CEIL64, &rate.to_ne_bytes());
            }
        });
        self.change("create class", add, || format!("{class} of {}", self.link_label(index)))
    }

    /// The class of that number; `None` if there is none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn class(&self, index: u32, class: Handle) -> Result<Option<RateClass>> {
        let get = request(RTM_GETTCLASS, NLM_F_ECHO, index, Handle::NONE, class, 0);
        match self.socket.get_if_any(get, |payload| Ok(read(payload)?)) {
            Err(refusal) if refusal.is(libc::ENOENT) || refusal.is(libc::EOPNOTSUPP) => Ok(None),
            found => {
                let label = || format!("{class} of {}", self.link_label(index));
                found.map_err(|refusal| refusal.on("look up class", label()))
            }
        }
    }
}
