//! The figures for people (markdown) and for programs (JSON).

use std::fmt::Write;

use serde_json::{Value, json};

use super::notes::{Figures, Measure, Subject, Summary};
use super::target::Target;

/// A table of medians, with ratios and targets.
pub(crate) fn markdown(facts: &[(&str, String)], subjects: &[Subject], figures: &Figures) -> String {
    let mut text = String::new();
    for (name, value) in facts {
        let _ = writeln!(text, "- {name}: {value}");
    }
    let mut head = vec!["median (p95)".to_owned(), "unit".to_owned()];
    head.extend(subjects.iter().map(|subject| subject.name().to_owned()));
    let others: Vec<Subject> = subjects.iter().copied().filter(|s| *s != Subject::Curfew).collect();
    head.extend(others.iter().map(|other| format!("Curfew / {}", other.name())));
    head.extend(["target".to_owned(), "is".to_owned()]);
    let rule: Vec<&str> = std::iter::once("---").chain(std::iter::repeat_n("---:", head.len() - 1)).collect();
    let _ = writeln!(text, "\n| {} |\n| {} |", head.join(" | "), rule.join(" | "));
    for measure in Measure::ALL {
        let mut row = vec![measure.name().to_owned(), measure.unit().to_owned()];
        row.extend(subjects.iter().map(|s| cell(figures.summary(measure, *s))));
        row.extend(others.iter().map(|other| ratio(figures, measure, *other)));
        row.extend(verdict(measure, figures));
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

fn cell(summary: Option<Summary>) -> String {
    summary.map_or("n/a".into(), |s| format!("{} ({})", short(s.median), short(s.p95)))
}

/// Three digits or so.
fn short(value: f64) -> String {
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$}")
}

fn ratio(figures: &Figures, measure: Measure, other: Subject) -> String {
    let median = |subject| figures.summary(measure, subject).map(|summary| summary.median);
    match (median(Subject::Curfew), median(other)) {
        (Some(ours), Some(theirs)) if theirs > 0.0 => format!("{:.2}", ours / theirs),
        _ => "n/a".into(),
    }
}

fn verdict(measure: Measure, figures: &Figures) -> [String; 2] {
    let Some(target) = Target::of(measure) else { return [String::new(), String::new()] };
    let is = match target.is_met(measure, figures) {
        Some(true) => "ok",
        Some(false) => "**missed**",
        None => "n/a",
    };
    [target.words(), is.into()]
}

/// Everything the table has, and the best and worst of each.
pub(crate) fn json(facts: &[(&str, String)], subjects: &[Subject], figures: &Figures) -> Value {
    let facts: Vec<(String, Value)> =
        facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let measures: Vec<Value> = Measure::ALL.iter().map(|m| measure_json(*m, subjects, figures)).collect();
    json!({ "facts": facts.into_iter().collect::<serde_json::Map<_, _>>(), "measures": measures })
}

fn measure_json(measure: Measure, subjects: &[Subject], figures: &Figures) -> Value {
    let mut json = json!({ "name": measure.name(), "unit": measure.unit(), "subjects": {} });
    for subject in subjects {
        json["subjects"][subject.name()] = figures.summary(measure, *subject).map_or(Value::Null, |s| {
            json!({ "count": s.count, "best": s.best, "median": s.median, "p95": s.p95, "worst": s.worst })
        });
    }
    if let Some(target) = Target::of(measure) {
        json["target"] = json!({ "is": target.words(), "met": target.is_met(measure, figures) });
    }
    json
}
