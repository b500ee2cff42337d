//! Values under numbers that are not reused: the number of a removed value never finds its
//! successor.

/// The number of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    index: u32,
    /// 24 bits: how often the slot was filled.
    generation: u32,
}

impl Id {
    /// Number 0, for a source of which there is one.
    pub const ZERO: Self = Self { index: 0, generation: 0 };

    /// The number in the lower 56 bits of a word.
    pub fn to_word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The number from the lower 56 bits of a word.
    pub fn from_word(word: u64) -> Self {
        let index = u32::try_from(word & 0xffff_ffff).unwrap_or(0);
        Self { index, generation: u32::try_from(word >> 32 & 0xff_ffff).unwrap_or(0) }
    }
}

/// A vector with free slots.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Adds a value.
    pub fn insert(&mut self, value: T) -> Id {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut self.slots[index as usize];
        slot.0 = (slot.0 + 1) & 0xff_ffff;
        slot.1 = Some(value);
        Id { index, generation: slot.0 }
    }

    fn slot(&self, id: Id) -> Option<&(u32, Option<T>)> {
        self.slots.get(id.index as usize).filter(|slot| slot.0 == id.generation)
    }

    /// The value with that number.
    pub fn get(&self, id: Id) -> Option<&T> {
        self.slot(id)?.1.as_ref()
    }

    /// The value with that number.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.slot(id)?;
        self.slots.get_mut(id.index as usize)?.1.as_mut()
    }

    /// Removes a value and returns it.
    pub fn remove(&mut self, id: Id) -> Option<T> {
        self.slot(id)?;
        let value = self.slots.get_mut(id.index as usize)?.1.take();
        if value.is_some() {
            self.free.push(id.index);
        }
        value
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.slots.iter().zip(0..).filter_map(|((generation, value), index)| {
            value.as_ref().map(|value| (Id { index, generation: *generation }, value))
        })
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_removed_value_does_not_find_its_successor() {
        let mut slab = Slab::default();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert!(slab.get(first).is_none() && slab.get_mut(first).is_none());
        assert_eq!(slab.remove(first), None);
        assert_eq!(Id::from_word(second.to_word()), second);
        assert_eq!((slab.get(second), slab.len()), (Some(&'b'), 1));
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(second, &'b')]);
    }
}
