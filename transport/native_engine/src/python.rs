//! The line to Python. Plain data only: what certificates mean is `spnhub.transport.native_engine`'s to say.

mod addresses;
mod api;
mod engine;
mod judge;

use pyo3::prelude::*;

/// What a build can do, compared by the other side of the line.
const INTERFACE: u32 = 7;

#[pymodule]
fn spnhub_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    crate::engine::remember_panics();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("INTERFACE", INTERFACE)?;
    module.add_class::<engine::NativeEngine>()?;
    module.add_function(wrap_pyfunction!(peek_server_name, module)?)
}

/// The server name in a client's first datagrams, in lower case; None if it has none, or not in these.
#[pyfunction]
fn peek_server_name(datagrams: Vec<Vec<u8>>) -> Option<String> {
    match crate::tls::peek(&datagrams) {
        crate::tls::Peeked::Noise => None,
        crate::tls::Peeked::Somebody(name) => name,
    }
}
