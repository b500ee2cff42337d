//! The lease of an ADD that may fail: it is given back, unless ADD succeeds.

use cni::Error;

use super::add::Adding;
use crate::farewell::release;
use crate::keeper;
use crate::record::Record;
use crate::terms::Terms;

/// A lease with its record.
pub struct Taken<'a> {
    adding: &'a Adding<'a>,
    record: Option<Record>,
}

impl<'a> Taken<'a> {
    /// No lease yet.
    pub fn none(adding: &'a Adding<'a>) -> Self {
        Self { adding, record: None }
    }

    /// Writes the record.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn write(&mut self, record: Record) -> sys::Result<()> {
        let _lock = self.adding.store.lock()?;
        self.adding.store.write(&record)?;
        self.record = Some(record);
        Ok(())
    }

    /// Writes the record with other terms.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn complete(&mut self, terms: &Terms) -> sys::Result<()> {
        let Some(record) = self.record.clone() else { return Ok(()) };
        self.write(Record { terms: terms.clone(), ..record })
    }

    /// Removes the record.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn forget(&mut self) -> sys::Result<()> {
        let Some(record) = self.record.take() else { return Ok(()) };
        let _lock = self.adding.store.lock()?;
        self.adding.store.remove(&record.name()).map(drop)
    }

    /// Has the daemon keep the lease; one that ended meanwhile is started again.
    ///
    /// # Errors
    /// There is no daemon. The lease is given back.
    pub fn keep(&self) -> Result<(), Error> {
        let Some(name) = self.record.as_ref().map(Record::name) else { return Ok(()) };
        let socket = &self.adding.settings.socket;
        let response = match keeper::sync(socket, name.clone()) {
            Err(failed) if failed.is_absent() => {
                keeper::ensure(&self.adding.store, socket)?;
                keeper::sync(socket, name)?
            }
            done => done?,
        };
        response.error.map_or(Ok(()), |error| Err(Error::internal(error)))
    }

    /// ADD succeeds: the lease stays.
    pub fn stays(mut self) {
        self.record = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(record) = &self.record else { return };
        // ADD's own error is the one to report. The runtime calls DEL.
        let _ = release(&self.adding.place, &record.terms);
        let _ = self.forget();
    }
}
