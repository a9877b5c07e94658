//! The figures for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

/// What is promised of a series, in its own unit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    None,
    Median(f64),
    P99(f64),
    Max(f64),
}

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Sorted.
    values: Vec<f64>,
    target: Target,
}

impl Row {
    pub(crate) fn new(
        name: impl Into<String>,
        unit: &'static str,
        mut values: Vec<f64>,
        target: Target,
    ) -> Self {
        values.sort_by(f64::total_cmp);
        Self { name: name.into(), unit, values, target }
    }

    /// The value that so many in a hundred don't exceed.
    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.values.len() * percent).div_ceil(100).max(1) - 1;
        self.values.get(index).copied().unwrap_or(f64::NAN)
    }

    fn max(&self) -> f64 {
        self.values.last().copied().unwrap_or(f64::NAN)
    }

    fn target(&self) -> String {
        match self.target {
            Target::None => String::new(),
            Target::Median(most) => format!("median ≤ {most} {}", self.unit),
            Target::P99(most) => format!("p99 ≤ {most} {}", self.unit),
            Target::Max(most) => format!("max ≤ {most} {}", self.unit),
        }
    }

    /// `None` without a target, and for a time on an emulated processor.
    fn is_met(&self, is_emulated: bool) -> Option<bool> {
        if is_emulated && self.unit == "ms" {
            return None;
        }
        match self.target {
            Target::None => None,
            Target::Median(most) => Some(self.percentile(50) <= most),
            Target::P99(most) => Some(self.percentile(99) <= most),
            Target::Max(most) => Some(self.max() <= most),
        }
    }

    fn json(&self, is_emulated: bool) -> Value {
        json!({
            "name": self.name, "unit": self.unit, "count": self.values.len(), "median": self.percentile(50),
            "p95": self.percentile(95), "p99": self.percentile(99), "worst": self.max(),
            "target": { "is": self.target(), "met": self.is_met(is_emulated) },
        })
    }
}

/// A table, with targets.
pub(crate) fn markdown(facts: &[(&str, String)], rows: &[Row], is_emulated: bool) -> String {
    let mut text = String::new();
    for (name, value) in facts {
        let _ = writeln!(text, "- {name}: {value}");
    }
    text += "\n| measured | unit | count | p50 | p99 | max | target | is |\n";
    text += "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";
    for row in rows {
        let is = match (row.is_met(is_emulated), row.target) {
            (Some(true), _) => "ok",
            (Some(false), _) => "**missed**",
            (None, Target::None) => "",
            (None, _) => "n/a",
        };
        let [p50, p99, max] = [row.percentile(50), row.percentile(99), row.max()].map(short);
        let (name, unit, count, target) = (&row.name, row.unit, row.values.len(), row.target());
        let _ = writeln!(text, "| {name} | {unit} | {count} | {p50} | {p99} | {max} | {target} | {is} |");
    }
    text
}

/// Three digits or so.
fn short(value: f64) -> String {
    let digits = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    format!("{value:.digits$}")
}

/// All rows with what they are about.
pub(crate) fn json(facts: &[(&str, String)], rows: &[Row], is_emulated: bool) -> Value {
    let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
    let rows: Vec<Value> = rows.iter().map(|row| row.json(is_emulated)).collect();
    json!({ "facts": facts.collect::<serde_json::Map<_, _>>(), "rows": rows })
}
