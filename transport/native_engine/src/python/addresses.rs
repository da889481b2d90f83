//! `spnhub.transport.engine.Address` and back.

use super::api::Api;
use crate::paths::{Address, Paths, Remote, remote};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use std::collections::HashMap;
use std::net::SocketAddr;

/// Objects that are kept; then all are made anew.
const KEPT: usize = 16_384;

/// The objects that were handed out last.
#[derive(Default)]
pub struct Addresses {
    made: HashMap<SocketAddr, Py<PyAny>>,
}

/// What quinn calls an address.
pub fn path_of(address: &Bound<'_, PyAny>, paths: &mut Paths) -> PyResult<SocketAddr> {
    let fields = address.cast::<PyTuple>()?;
    let (peer, own) = (fields.get_item(1)?, fields.get_item(2)?);
    let peer = peer.cast::<PyTuple>()?;
    let host = peer.get_item(0)?;
    let host = host.cast::<PyString>()?.to_cow()?;
    let scope = if peer.len() > 3 { peer.get_item(3)?.extract()? } else { 0 };
    let remote = remote(&host, peer.get_item(1)?.extract()?, scope);
    let own = own.cast::<PyBytes>()?.as_bytes().to_vec();
    Ok(paths.to_quinn(&Address { local: fields.get_item(0)?.extract()?, remote, own }))
}

impl Addresses {
    /// The object that stands for a path; None: nobody knows the path any more.
    pub fn object(
        &mut self,
        py: Python<'_>,
        api: &Api,
        paths: &Paths,
        path: SocketAddr,
    ) -> PyResult<Option<Py<PyAny>>> {
        if let Some(made) = self.made.get(&path) {
            return Ok(Some(made.clone_ref(py)));
        }
        let Some(address) = paths.of_quinn(path) else { return Ok(None) };
        let peer = match address.remote {
            Remote::V4(ip, port) => (ip.to_string(), port).into_pyobject(py)?,
            Remote::V6(ip, zone, port, scope) => {
                let host = if zone.is_empty() { ip.to_string() } else { format!("{ip}%{zone}") };
                (host, port, 0, scope).into_pyobject(py)?
            }
            Remote::Name(name, port) => (name, port).into_pyobject(py)?,
        };
        let own = PyBytes::new(py, &address.own);
        let made = api.address.bind(py).call1((address.local, peer, own))?.unbind();
        if self.made.len() >= KEPT {
            self.made.clear();
        }
        self.made.insert(path, made.clone_ref(py));
        Ok(Some(made))
    }

    /// Numbers of paths may mean others now.
    pub fn forget(&mut self) {
        self.made.clear();
    }
}
