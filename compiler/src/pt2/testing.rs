//! Small archives for tests, made entry by entry.

use std::io::{Cursor, Write};

use serde_json::{Value, json};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::{Archive, Result};

/// The entries of an archive, in order.
pub(crate) struct Parts(pub Vec<(String, Vec<u8>)>);

/// A weight or constant: its name, element type, sizes and bytes.
pub(crate) struct Weight<'a> {
    pub fqn: &'a str,
    pub dtype: i64,
    pub sizes: &'a [i64],
    pub bytes: Vec<u8>,
}

/// A `TensorMeta` with plain sizes.
pub(crate) fn meta(dtype: i64, sizes: &[i64], strides: &[i64], offset: i64) -> Value {
    let ints = |v: &[i64]| v.iter().map(|n| json!({"as_int": n})).collect::<Vec<_>>();
    json!({
        "dtype": dtype, "sizes": ints(sizes), "strides": ints(strides), "storage_offset": {"as_int": offset},
        "requires_grad": false, "device": {"type": "cpu", "index": null}, "layout": 7,
    })
}

/// A `TensorMeta` of a row-major tensor.
pub(crate) fn dense(dtype: i64, sizes: &[i64]) -> Value {
    let mut strides = vec![1; sizes.len()];
    for i in (1..sizes.len()).rev() {
        strides[i - 1] = strides[i] * sizes[i];
    }
    meta(dtype, sizes, &strides, 0)
}

/// A `PayloadMeta`.
pub(crate) fn payload(path: &str, meta: Value) -> Value {
    json!({"path_name": path, "is_param": true, "use_pickle": false, "tensor_meta": meta})
}

impl Parts {
    /// An archive in folder `m` with these payloads and configurations.
    pub fn new(
        program: &Value,
        weights: Vec<(String, Vec<u8>)>,
        weights_config: Value,
        constants: Vec<(String, Vec<u8>)>,
        constants_config: Value,
    ) -> Self {
        let text = |value: &Value| value.to_string().into_bytes();
        let mut entries = Vec::new();
        entries.extend(
            weights
                .into_iter()
                .map(|(name, bytes)| (format!("data/weights/{name}"), bytes)),
        );
        entries.push((
            "data/weights/model_weights_config.json".to_owned(),
            text(&json!({"config": weights_config})),
        ));
        entries.extend(
            constants
                .into_iter()
                .map(|(name, bytes)| (format!("data/constants/{name}"), bytes)),
        );
        entries.push((
            "data/constants/model_constants_config.json".to_owned(),
            text(&json!({"config": constants_config})),
        ));
        entries.push(("models/model.json".to_owned(), text(program)));
        for (name, content) in [
            ("archive_format", "pt2"),
            ("archive_version", "0"),
            ("byteorder", "little"),
        ] {
            entries.push((name.to_owned(), content.as_bytes().to_vec()));
        }
        Self(
            entries
                .into_iter()
                .map(|(name, bytes)| (format!("m/{name}"), bytes))
                .collect(),
        )
    }

    /// An archive whose weights are dense and unshared.
    pub fn with_weights(program: &Value, weights: &[Weight<'_>]) -> Self {
        let mut config = serde_json::Map::new();
        let mut payloads = Vec::new();
        for (n, weight) in weights.iter().enumerate() {
            let path = format!("weight_{n}");
            config.insert(
                weight.fqn.to_owned(),
                payload(&path, dense(weight.dtype, weight.sizes)),
            );
            payloads.push((path, weight.bytes.clone()));
        }
        Self::new(
            program,
            payloads,
            Value::Object(config),
            Vec::new(),
            json!({}),
        )
    }

    /// The bytes of an entry.
    pub fn entry(&mut self, name: &str) -> &mut Vec<u8> {
        let full = format!("m/{name}");
        &mut self.0.iter_mut().find(|(n, _)| *n == full).unwrap().1
    }

    /// The archive without an entry.
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(n, _)| n != &format!("m/{name}"));
        self
    }

    /// The file.
    pub fn zip(&self) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in &self.0 {
            let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            zip.start_file(name, stored).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    /// The archive, read back.
    pub fn open(&self) -> Result<Archive> {
        open(&self.zip())
    }

    /// The message with which reading fails.
    pub fn error(&self) -> String {
        self.open().unwrap_err().to_string()
    }
}

/// Opens a file of these bytes.
pub(crate) fn open(bytes: &[u8]) -> Result<Archive> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Archive::open(file.path())
}

/// Little-endian float32.
pub(crate) fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}
