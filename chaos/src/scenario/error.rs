//! A schema error points at the line: file, line, column, the line itself and what would be right.

use std::fmt;
use std::ops::Range;

/// What is wrong in a scenario file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    /// File as named by the caller.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The offending line.
    pub source_line: String,
    /// Characters to underline.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right; empty if the message says it.
    pub mend: String,
}

impl SchemaError {
    /// Locates `span` (bytes) in `text`.
    #[must_use]
    pub fn at(
        file: &str,
        text: &str,
        span: Range<usize>,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let start = floor_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let end = floor_boundary(text, span.end.clamp(start, line_end));
        Self {
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            source_line: text[line_start..line_end].to_owned(),
            width: text[start..end].chars().count().max(1),
            message: message.into(),
            mend: mend.into(),
        }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0)
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            source_line,
            width,
            message,
            mend,
        } = self;
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        writeln!(f, "{line:>5} | {source_line}")?;
        write!(
            f,
            "      | {}{}",
            " ".repeat(column - 1),
            "^".repeat(*width)
        )?;
        if !mend.is_empty() {
            write!(f, "\nright would be: {mend}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SchemaError {}
