//! What a bench found: one object, or a table for people.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// Figures in the order they were measured.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct BenchReport {
    figures: Map<String, Value>,
    /// What people see instead of a table.
    #[serde(skip)]
    drawing: Option<String>,
}

impl BenchReport {
    pub(crate) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// A rate or a time: four significant digits are enough.
    pub(crate) fn put_number(&mut self, name: &str, value: f64) {
        let digits = if value == 0.0 { 0 } else { (3 - value.abs().log10().floor() as i32).clamp(0, 6) };
        let scale = 10_f64.powi(digits);
        self.put(name, (value * scale).round() / scale);
    }

    pub(crate) fn put_all(&mut self, figures: &impl Serialize) {
        if let Ok(Value::Object(figures)) = serde_json::to_value(figures) {
            for (name, value) in figures {
                match value.as_f64() {
                    Some(number) if value.is_f64() => self.put_number(&name, number),
                    _ => self.put(&name, value),
                }
            }
        }
    }

    /// Shows people a drawing instead of a table.
    pub(crate) fn draw(&mut self, drawing: String) {
        self.drawing = Some(drawing);
    }

    /// Whether nothing was lost, doubled or dead, and no aim missed.
    pub fn is_sound(&self) -> bool {
        ["lost", "duplicated", "dead", "missed"]
            .iter()
            .all(|name| self.figures.get(*name).is_none_or(|n| n == &Value::from(0)))
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(drawing) = &self.drawing {
            return f.write_str(drawing);
        }
        let width = self.figures.keys().map(String::len).max().unwrap_or(0);
        for (name, value) in &self.figures {
            let value = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            writeln!(f, "{name:<width$}  {value:>14}")?;
        }
        Ok(())
    }
}
