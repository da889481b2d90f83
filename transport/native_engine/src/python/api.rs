//! The classes of `spnhub.transport.engine`, and what of ours becomes which.

use super::addresses::Addresses;
use crate::event::{CloseKind, Event, Outcome};
use crate::paths::Paths;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

/// The classes.
pub struct Api {
    pub address: Py<PyAny>,
    pub info: Py<PyAny>,
    pub transmit: Py<PyAny>,
    /// `tuple.__new__`, which makes a named tuple without its own, slower one.
    pub new_tuple: Py<PyAny>,
    connected: Py<PyAny>,
    handshake_refused: Py<PyAny>,
    handshakes_dropped: Py<PyAny>,
    retries_sent: Py<PyAny>,
    window_low: Py<PyAny>,
    send_window_low: Py<PyAny>,
    throttled: Py<PyAny>,
    closed: Py<PyAny>,
    opened: Py<PyAny>,
    readable: Py<PyAny>,
    writable: Py<PyAny>,
    reset: Py<PyAny>,
    stopped: Py<PyAny>,
    available: Py<PyAny>,
    datagram_received: Py<PyAny>,
    unresponsive: Py<PyAny>,
    answered: Py<PyAny>,
    path_narrowed: Py<PyAny>,
    spliced: Py<PyAny>,
    outcome: Py<PyAny>,
    close_kind: Py<PyAny>,
    outcome_kind: Py<PyAny>,
    subject_of: Py<PyAny>,
}

impl Api {
    /// `subject_of` says whose a certificate (DER) that nobody has verified claims to be.
    pub fn load(py: Python<'_>, subject_of: Py<PyAny>) -> PyResult<Self> {
        let module = py.import("spnhub.transport.engine")?;
        let class = |name: &str| module.getattr(name).map(Bound::unbind);
        Ok(Self {
            address: class("Address")?,
            info: class("ConnectionInfo")?,
            transmit: class("Transmit")?,
            new_tuple: py.get_type::<PyTuple>().getattr("__new__")?.unbind(),
            connected: class("Connected")?,
            handshake_refused: class("HandshakeRefused")?,
            handshakes_dropped: class("HandshakesDropped")?,
            retries_sent: class("RetriesSent")?,
            window_low: class("WindowLow")?,
            send_window_low: class("SendWindowLow")?,
            throttled: class("Throttled")?,
            closed: class("Closed")?,
            opened: class("Opened")?,
            readable: class("Readable")?,
            writable: class("Writable")?,
            reset: class("Reset")?,
            stopped: class("Stopped")?,
            available: class("Available")?,
            datagram_received: class("DatagramReceived")?,
            unresponsive: class("Unresponsive")?,
            answered: class("Answered")?,
            path_narrowed: class("PathNarrowed")?,
            spliced: class("Spliced")?,
            outcome: class("Outcome")?,
            close_kind: class("CloseKind")?,
            outcome_kind: class("OutcomeKind")?,
            subject_of,
        })
    }

    /// An event as Python has it.
    pub fn event<'py>(
        &self,
        py: Python<'py>,
        event: Event,
        paths: &Paths,
        addresses: &mut Addresses,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut address = |path| addresses.object(py, self, paths, path);
        match event {
            Event::Readable(id, stream) => self.readable.bind(py).call1((id, stream)),
            Event::Writable(id, stream) => self.writable.bind(py).call1((id, stream)),
            Event::Opened(id, stream) => self.opened.bind(py).call1((id, stream)),
            Event::Reset(id, stream, code) => self.reset.bind(py).call1((id, stream, code)),
            Event::Stopped(id, stream, code) => self.stopped.bind(py).call1((id, stream, code)),
            Event::Available(id) => self.available.bind(py).call1((id,)),
            Event::Datagram(id, data) => self.datagram_received.bind(py).call1((id, PyBytes::new(py, &data))),
            Event::Unresponsive(id) => self.unresponsive.bind(py).call1((id,)),
            Event::Answered(id) => self.answered.bind(py).call1((id,)),
            Event::PathNarrowed(id) => self.path_narrowed.bind(py).call1((id,)),
            Event::HandshakesDropped((local, name), count) => {
                self.handshakes_dropped.bind(py).call1((local, name, count))
            }
            Event::Throttled(meter, count) => self.throttled.bind(py).call1((meter, count)),
            Event::WindowLow(id) => self.window_low.bind(py).call1((id,)),
            Event::SendWindowLow(id) => self.send_window_low.bind(py).call1((id,)),
            Event::RetriesSent((local, name), count) => self.retries_sent.bind(py).call1((local, name, count)),
            Event::Closed { id, kind, code, reason } => {
                let kind = self.close_kind.bind(py).getattr(name_of(kind))?;
                self.closed.bind(py).call1((id, kind, code, reason))
            }
            Event::Spliced { token, passed: [a_to_b, b_to_a], outcomes } => {
                let [first, second] = outcomes.map(|outcome| self.outcome(py, outcome));
                self.spliced.bind(py).call1((token, a_to_b, b_to_a, first?, second?))
            }
            Event::Connected { id, server_name, certificates, alpn, cid, path } => {
                let certificates = PyTuple::new(py, certificates.iter().map(|der| PyBytes::new(py, der)))?;
                let cid = PyBytes::new(py, &cid);
                self.connected.bind(py).call1((id, server_name, certificates, alpn, cid, address(path)?))
            }
            Event::HandshakeRefused { id, path, server_name, alert, reason, certificate } => {
                let subject = match certificate {
                    Some(der) => Some(self.subject_of.bind(py).call1((PyBytes::new(py, &der),))?),
                    None => None,
                };
                self.handshake_refused.bind(py).call1((id, address(path)?, server_name, alert, reason, subject))
            }
        }
    }

    fn outcome<'py>(&self, py: Python<'py>, outcome: Outcome) -> PyResult<Bound<'py, PyAny>> {
        let (name, code) = match outcome {
            Outcome::Finished => ("FINISHED", 0),
            Outcome::Reset(code) => ("RESET", code),
            Outcome::Stopped(code) => ("STOPPED", code),
            Outcome::Lost(code) => ("LOST", code),
            Outcome::Aborted(code) => ("ABORTED", code),
        };
        self.outcome.bind(py).call1((self.outcome_kind.bind(py).getattr(name)?, code))
    }
}

fn name_of(kind: CloseKind) -> &'static str {
    match kind {
        CloseKind::Peer => "PEER",
        CloseKind::PeerTransport => "PEER_TRANSPORT",
        CloseKind::Local => "LOCAL",
        CloseKind::Violation => "VIOLATION",
        CloseKind::Idle => "IDLE",
        CloseKind::Unreachable => "UNREACHABLE",
        CloseKind::PortClosed => "PORT_CLOSED",
        CloseKind::Reset => "RESET",
    }
}
