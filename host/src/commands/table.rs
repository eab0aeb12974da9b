//! Tables of the commands: a line of heads, then aligned columns.

use crate::printable::printable;
use serde_json::Value;
use std::io::{self, Write};

/// Returns a field of an answer as one printable word; `-` when the field is missing.
pub(super) fn text(value: &Value, field: &str) -> String {
    let text = match value.get(field) {
        Some(Value::String(text)) => printable(text),
        Some(Value::Array(items)) => {
            let items: Vec<String> = items
                .iter()
                .filter_map(Value::as_str)
                .map(printable)
                .collect();
            items.join(",")
        }
        Some(Value::Null) | None => String::new(),
        Some(other) => printable(&other.to_string()),
    };
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// Writes a table; nothing without rows.
pub(super) fn table<const N: usize>(
    heads: [&str; N],
    rows: &[[String; N]],
    out: &mut dyn Write,
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut widths = heads.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut write_row = |cells: &[String; N]| {
        let cells: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())
    };
    write_row(&heads.map(str::to_owned))?;
    rows.iter().try_for_each(write_row)
}
