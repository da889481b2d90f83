//! What trips quinn, or us, costs the connection that it was about, and nothing else. A connection that fails is
//! closed; if that fails, too, it is gone.

use super::{Engine, INTERNAL};
use crate::connection::{Trap, var};
use crate::event::{CloseKind, Id};
use bytes::Bytes;
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

const REASON: &str = "internal error";

thread_local! {
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Have panics of this library remembered instead of printed. Once for the process.
pub fn remember_panics() {
    std::panic::set_hook(Box::new(|info| {
        PLACE.set(info.location().map(ToString::to_string).unwrap_or_default());
    }));
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned());
    format!("{text} at {}", PLACE.take())
}

impl Engine {
    /// Do something that is about one connection; None: it failed.
    pub(super) fn guarded<T>(&mut self, id: Id, act: impl FnOnce(&mut Self) -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(|| act(self))) {
            Ok(result) => Some(result),
            Err(panic) => {
                self.faults.push(describe(&*panic));
                self.fail(id);
                None
            }
        }
    }

    /// Do something with a datagram of which nobody knows yet which connection it is about.
    pub(super) fn guarded_datagram(&mut self, act: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| act(self))) {
            self.faults.push(describe(&*panic));
        }
    }

    fn fail(&mut self, id: Id) {
        let now = self.now;
        let closed = catch_unwind(AssertUnwindSafe(|| {
            let Some(connection) = self.connections.get_mut(&id) else { return true };
            if std::mem::replace(&mut connection.failed, true) {
                return false;
            }
            assert!(connection.trap != Some(Trap::Always), "trap");
            if connection.is_live() {
                connection.quic.close(now, var(INTERNAL), Bytes::from_static(REASON.as_bytes()));
                self.end(id, CloseKind::Violation, INTERNAL, REASON.to_owned());
            }
            true
        }));
        if !closed.unwrap_or(false) {
            self.give_up(id);
        }
    }

    /// A connection that can't even be closed. Whatever of this panics, it is gone.
    fn give_up(&mut self, id: Id) {
        let told = catch_unwind(AssertUnwindSafe(|| {
            if self.connections.get(&id).is_some_and(|connection| connection.is_live()) {
                self.end(id, CloseKind::Violation, INTERNAL, REASON.to_owned());
            }
            self.forget(id);
        }));
        if let Err(panic) = told {
            self.faults.push(describe(&*panic));
            self.connections.remove(&id);
        }
    }

    /// Do something that is about one splice.
    pub(super) fn guarded_splice(&mut self, token: u64, act: impl FnOnce(&mut Self)) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| act(self))) else { return };
        self.faults.push(describe(&*panic));
        let sides = self.tokens.get(&token).and_then(|slot| self.splices.get(*slot)).map(crate::splice::Splice::sides);
        if catch_unwind(AssertUnwindSafe(|| self.unsplice(token, INTERNAL))).is_err() {
            for (id, _) in sides.into_iter().flatten() {
                self.fail(id);
            }
        }
    }

    /// Bring a fault about, for tests of the above.
    pub fn set_trap(&mut self, id: Id, trap: Trap) {
        if let Some(connection) = self.live(id) {
            connection.trap = Some(trap);
        }
    }

    /// Fail, if a test has asked for it.
    pub(super) fn spring(&mut self, id: Id, here: Trap) {
        if let Some(connection) = self.connections.get_mut(&id)
            && let Some(trap) = connection.trap
            && (trap == here || trap == Trap::Always)
        {
            if trap != Trap::Always {
                connection.trap = None;
            }
            panic!("trap");
        }
    }
}
