//! The JSON Schema, from the table of keys.

use serde_json::Value;

/// The JSON Schema of the machine form.
pub fn json_schema() -> Value {
    Value::Null
}
