//! `spnhub.transport.engine.Engine`, as far as it is more than plain data.

use super::addresses::{Addresses, path_of};
use super::api::Api;
use super::judge::PythonJudge;
use crate::connection::Trap;
use crate::engine::{Engine, Named};
use crate::error::Error;
use crate::limits::Limits;
use crate::tls;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

/// What one server name, or one client, presents, parsed and ready: made once, used often.
#[pyclass(module = "spnhub_native", frozen)]
pub struct ServerIdentity(Arc<QuicServerConfig>, Option<usize>);

/// The same of a client.
#[pyclass(module = "spnhub_native", frozen)]
pub struct ClientIdentity(Arc<QuicClientConfig>);

/// The engine. `spnhub.transport.native_engine` derives from it.
#[pyclass(module = "spnhub_native", subclass)]
pub struct NativeEngine {
    core: Engine,
    api: Api,
    addresses: Addresses,
    /// Second 0 of the program's clock.
    base: Instant,
    on_fault: Py<PyAny>,
}

fn number(limits: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    limits.getattr(name)?.extract()
}

fn duration(limits: &Bound<'_, PyAny>, name: &str) -> PyResult<Duration> {
    let seconds: f64 = limits.getattr(name)?.extract()?;
    Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
}

fn bounds(limits: &Bound<'_, PyAny>) -> PyResult<Limits> {
    Ok(Limits {
        idle_timeout: duration(limits, "idle_timeout")?,
        keep_alive: duration(limits, "keep_alive")?,
        handshake_timeout: duration(limits, "handshake_timeout")?,
        datagram_size: limits.getattr("datagram_size")?.extract()?,
        datagram_size_max: limits.getattr("datagram_size_max")?.extract()?,
        streams: number(limits, "streams")?,
        stream_window: number(limits, "stream_window")?,
        stream_window_max: number(limits, "stream_window_max")?,
        window_budget: number(limits, "window_budget")?,
        initial_window: number(limits, "initial_window")?,
        initial_send_window: number(limits, "initial_send_window")?,
        send_buffer: number(limits, "send_buffer")?,
        send_budget: number(limits, "send_budget")?,
        left_behind: number(limits, "left_behind")?,
        suspect_after: duration(limits, "suspect_after")?,
        probe_timeout: duration(limits, "probe_timeout")?,
        port_check: duration(limits, "port_check")?,
    })
}

fn protocols(alpn: Vec<String>) -> Vec<Vec<u8>> {
    alpn.into_iter().map(String::into_bytes).collect()
}

impl NativeEngine {
    fn at(&self, now: f64) -> Instant {
        // To the nanosecond, so that what timer() said comes back as it was.
        #[allow(clippy::cast_sign_loss)] // no clock of a program is below 0
        let nanoseconds = (now * 1e9).round() as u64;
        self.base + Duration::from_nanos(nanoseconds)
    }
}

#[pymethods]
impl NativeEngine {
    /// `limits`: a `spnhub.transport.engine.Limits`. `subject_of`: names a certificate. `on_fault`: is told of faults.
    #[new]
    #[pyo3(signature = (limits, subject_of, on_fault, reset_key=None, seed=None))]
    fn new(
        py: Python<'_>,
        limits: &Bound<'_, PyAny>,
        subject_of: Py<PyAny>,
        on_fault: Py<PyAny>,
        reset_key: Option<&[u8]>,
        seed: Option<[u8; 32]>,
    ) -> PyResult<Self> {
        let base = Instant::now();
        Ok(Self {
            core: Engine::new(bounds(limits)?, reset_key, seed, base),
            api: Api::load(py, subject_of)?,
            addresses: Addresses::default(),
            base,
            on_fault,
        })
    }

    /// What a server presents (DER; the key as PKCS #8), and who judges its clients: a function of a chain. And how many
    /// handshakes may be under way at once under its name; None: as many as under any.
    #[staticmethod]
    fn server_identity(
        chain: Vec<Vec<u8>>,
        key: Vec<u8>,
        alpn: Vec<String>,
        judge: Py<PyAny>,
        places: Option<usize>,
    ) -> PyResult<ServerIdentity> {
        let config = tls::server_config(chain, key, protocols(alpn), Arc::new(PythonJudge(judge)))?;
        Ok(ServerIdentity(config, places))
    }

    /// The same of a client.
    #[staticmethod]
    fn client_identity(
        chain: Vec<Vec<u8>>,
        key: Vec<u8>,
        alpn: Vec<String>,
        judge: Py<PyAny>,
    ) -> PyResult<ClientIdentity> {
        Ok(ClientIdentity(tls::client_config(chain, key, protocols(alpn), Arc::new(PythonJudge(judge)))?))
    }

    /// Serve these from now on: by server name, and in their place by socket.
    fn serve(
        &mut self,
        names: FxHashMap<String, Py<ServerIdentity>>,
        by_socket: FxHashMap<u32, FxHashMap<String, Py<ServerIdentity>>>,
    ) {
        let named = |names: FxHashMap<String, Py<ServerIdentity>>| -> Named {
            let parts = |identity: Py<ServerIdentity>| (identity.get().0.clone(), identity.get().1);
            names.into_iter().map(|(name, identity)| (name, parts(identity))).collect()
        };
        let by_socket = by_socket.into_iter().map(|(local, names)| (local, named(names))).collect();
        self.core.set_policy(named(names), by_socket);
    }

    /// Begin a connection.
    fn begin(
        &mut self,
        address: &Bound<'_, PyAny>,
        server_name: &str,
        identity: &Bound<'_, ClientIdentity>,
        now: f64,
    ) -> PyResult<u64> {
        let path = path_of(address, &mut self.core.paths)?;
        let now = self.at(now);
        Ok(self.core.connect(path, server_name, identity.get().0.clone(), now)?)
    }

    fn receive(&mut self, data: &[u8], address: &Bound<'_, PyAny>, segment_size: usize, now: f64) -> PyResult<()> {
        let path = path_of(address, &mut self.core.paths)?;
        if self.core.paths.is_full() {
            self.addresses.forget();
        }
        let now = self.at(now);
        self.core.receive(data, path, segment_size, now);
        Ok(())
    }

    #[pyo3(signature = (address, now, *, port_closed=false))]
    fn unreachable(&mut self, address: &Bound<'_, PyAny>, now: f64, port_closed: bool) -> PyResult<()> {
        let path = path_of(address, &mut self.core.paths)?;
        let now = self.at(now);
        self.core.unreachable(path, port_closed, now);
        Ok(())
    }

    fn repeat(&mut self, connection_id: u64, now: f64) {
        let now = self.at(now);
        self.core.repeat(connection_id, now);
    }

    fn set_translated(&mut self, connection_id: u64, translated: bool) {
        self.core.set_translated(connection_id, translated);
    }

    fn transmit<'py>(&mut self, py: Python<'py>, now: f64) -> PyResult<Bound<'py, PyList>> {
        let now = self.at(now);
        let mut datagrams = Vec::new();
        self.core.transmit(now, &mut |data, path, segment| {
            datagrams.push((PyBytes::new(py, data), path, segment));
        });
        let out = PyList::empty(py);
        let (make, class) = (self.api.new_tuple.bind(py), self.api.transmit.bind(py));
        for (data, path, segment) in datagrams {
            if let Some(address) = self.addresses.object(py, &self.api, &self.core.paths, path)? {
                out.append(make.call1((class, (data, address, segment)))?)?;
            }
        }
        Ok(out)
    }

    fn timer(&mut self) -> Option<f64> {
        let when = self.core.timer()?.saturating_duration_since(self.base);
        Some(when.as_nanos() as f64 / 1e9)
    }

    fn handle_timer(&mut self, now: f64) {
        let now = self.at(now);
        self.core.handle_timer(now);
    }

    fn shake_hands(&mut self, now: f64) -> bool {
        let now = self.at(now);
        self.core.shake_hands(now)
    }

    fn events<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let out = PyList::empty(py);
        for event in self.core.take_events() {
            out.append(self.api.event(py, event, &self.core.paths, &mut self.addresses)?)?;
        }
        for fault in self.core.take_faults() {
            self.on_fault.bind(py).call1(("engine", PyRuntimeError::new_err(fault).into_value(py)))?;
        }
        Ok(out)
    }

    fn close(&mut self, connection_id: u64, code: u64, reason: &str) {
        self.core.close(connection_id, code, reason);
    }

    fn open_bidi(&mut self, connection_id: u64) -> Option<u64> {
        self.core.open_bidi(connection_id)
    }

    fn write(&mut self, connection_id: u64, stream_id: u64, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Ok(bytes) = data.cast::<PyBytes>() {
            return Ok(self.core.write(connection_id, stream_id, bytes.as_bytes()));
        }
        let bytes: PyBackedBytes = data.py().get_type::<PyBytes>().call1((data,))?.extract()?;
        Ok(self.core.write(connection_id, stream_id, &bytes))
    }

    fn write_rest(&mut self, connection_id: u64, stream_id: u64, data: &[u8]) -> bool {
        self.core.write_rest(connection_id, stream_id, data)
    }

    fn room(&mut self, connection_id: u64, stream_id: u64) -> usize {
        self.core.room(connection_id, stream_id)
    }

    fn finish(&mut self, connection_id: u64, stream_id: u64) {
        self.core.finish(connection_id, stream_id);
    }

    fn read<'py>(
        &mut self,
        py: Python<'py>,
        connection_id: u64,
        stream_id: u64,
        limit: usize,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, bool)>> {
        let Some((pieces, fin)) = self.core.read(connection_id, stream_id, limit) else { return Ok(None) };
        if let [only] = pieces.as_slice() {
            return Ok(Some((PyBytes::new(py, only), fin)));
        }
        let size = pieces.iter().map(bytes::Bytes::len).sum();
        let data = PyBytes::new_with(py, size, |to| {
            let mut at = 0;
            for piece in &pieces {
                to[at..at + piece.len()].copy_from_slice(piece);
                at += piece.len();
            }
            Ok(())
        })?;
        Ok(Some((data, fin)))
    }

    fn reset(&mut self, connection_id: u64, stream_id: u64, code: u64) {
        self.core.reset(connection_id, stream_id, code);
    }

    fn stop(&mut self, connection_id: u64, stream_id: u64, code: u64) {
        self.core.stop(connection_id, stream_id, code);
    }

    #[pyo3(signature = (ca, sa, cb, sb, *, a_ended=false, b_ended=false, meters=Vec::new()))]
    #[allow(clippy::too_many_arguments)] // as the interface has it
    fn splice(&mut self, ca: u64, sa: u64, cb: u64, sb: u64, a_ended: bool, b_ended: bool, meters: Vec<u32>) -> u64 {
        self.core.splice((ca, sa), (cb, sb), [a_ended, b_ended], meters.into())
    }

    fn set_meters(&mut self, rates: FxHashMap<u32, u64>) {
        self.core.set_meters(&rates);
    }

    fn unsplice(&mut self, token: u64, code: u64) {
        self.core.unsplice(token, code);
    }

    fn splice_progress(&self, token: u64) -> Option<(u64, u64)> {
        self.core.splice_progress(token)
    }

    fn cork(&mut self, connection_id: u64) {
        self.core.cork(connection_id);
    }

    fn release(&mut self, connection_id: u64) {
        self.core.release(connection_id);
    }

    fn send_datagram(&mut self, connection_id: u64, data: &[u8]) {
        self.core.send_datagram(connection_id, data);
    }

    fn set_streams(&mut self, connection_id: u64, limit: u64) {
        self.core.set_streams(connection_id, limit);
    }

    fn set_window(&mut self, connection_id: u64, window: u64) {
        self.core.set_window(connection_id, window);
    }

    fn set_send_window(&mut self, connection_id: u64, window: u64) {
        self.core.set_send_window(connection_id, window);
    }

    fn info<'py>(&mut self, py: Python<'py>, connection_id: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(info) = self.core.info(connection_id) else { return Ok(None) };
        let address = self.addresses.object(py, &self.api, &self.core.paths, info.path)?;
        let rtt = info.rtt.as_secs_f64();
        let sizes = (info.congestion_window, info.in_flight, info.streams, info.buffered, info.window);
        let sending = (info.unacknowledged, info.datagram_size);
        let fields = (address, rtt, sizes.0, sizes.1, sizes.2, sizes.3, sizes.4, sending.0, sending.1);
        self.api.info.bind(py).call1(fields).map(Some)
    }

    /// See `Engine.counts`; and how many streams and splices there are.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = self.core.counts();
        let out = PyDict::new(py);
        out.set_item("connections", counts.connections)?;
        out.set_item("peers", counts.peers)?;
        out.set_item("streams", counts.streams)?;
        out.set_item("splices", counts.splices)?;
        out.set_item("half_open", counts.half_open)?;
        Ok(out)
    }

    /// How often the keys of a connection were replaced, for tests; None: it is gone.
    fn key_updates(&mut self, connection_id: u64) -> Option<u64> {
        self.core.key_updates(connection_id)
    }

    /// Bring a fault about, for tests: once in "receive", "collect", "transmit" or "splice", or "always".
    fn set_trap(&mut self, connection_id: u64, place: &str) -> PyResult<()> {
        match place {
            "receive" => self.core.set_trap(connection_id, Trap::Receive),
            "collect" => self.core.set_trap(connection_id, Trap::Collect),
            "transmit" => self.core.set_trap(connection_id, Trap::Transmit),
            "splice" => self.core.set_trap(connection_id, Trap::Splice),
            "always" => self.core.set_trap(connection_id, Trap::Always),
            _ => return Err(PyValueError::new_err("no such place")),
        }
        Ok(())
    }
}
