//! A judge of certificates that is a Python function.

use crate::tls::{Judge, Refusal};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

/// Of a fault of ours nothing is believed: certificate_unknown (RFC 8446 section 6.2).
const CERTIFICATE_UNKNOWN: u8 = 46;

/// Calls a function with a chain (DER, leaf first), which answers None or (alert, reason). It must not call the engine.
#[derive(Debug)]
pub struct PythonJudge(pub Py<PyAny>);

impl Judge for PythonJudge {
    fn judge(&self, chain: &[&[u8]]) -> Result<(), Refusal> {
        let answer = Python::attach(|py| -> PyResult<Option<(u8, String)>> {
            let chain = PyTuple::new(py, chain.iter().map(|der| PyBytes::new(py, der)))?;
            self.0.bind(py).call1((chain,))?.extract()
        });
        match answer {
            Ok(None) => Ok(()),
            Ok(Some((alert, reason))) => Err(Refusal { alert, reason }),
            Err(error) => {
                Python::attach(|py| error.write_unraisable(py, None));
                Err(Refusal { alert: CERTIFICATE_UNKNOWN, reason: "internal error".to_owned() })
            }
        }
    }
}
