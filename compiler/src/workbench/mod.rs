//! What people who write passes look at graphs with: [`diff`] says what differs between two graphs by value, [`picture`] draws them, [`snippet`] shows the place of an error in a text.

pub mod diff;
pub mod picture;

use crate::error::Error;
use fuseline_ir::{Graph, ParseError};
use fuseline_passes::PassCx;
use picture::Picture;

/// Graphs in one of the formats of [`FORMATS`].
///
/// # Errors
/// A format that isn't among them, or that can hold one graph only where there are several.
pub fn emitted(graphs: &[Graph], format: &str, cx: &PassCx) -> Result<String, Error> {
    let pictures = || -> Vec<Picture> { graphs.iter().map(|g| Picture::new(g, cx)).collect() };
    match (format, graphs) {
        ("ir", graphs) => Ok(graphs.iter().map(Graph::to_string).collect()),
        ("dot", _) => Ok(pictures().iter().map(picture::dot).collect()),
        ("html", _) => Ok(picture::html(&pictures())),
        ("svg", [graph]) => Ok(picture::svg(&Picture::new(graph, cx))),
        ("svg", graphs) => Err(Error::Usage(format!(
            "an SVG shows one graph, and there are {}; `--emit html` shows them all",
            graphs.len()
        ))),
        _ => Err(Error::Usage(format!("no format `{format}`"))),
    }
}

/// What [`emitted`] knows: the text form, Graphviz' language, SVG, and a page for a browser.
pub const FORMATS: [&str; 4] = ["ir", "dot", "svg", "html"];

/// The line of `text` that the error is about, with a caret below the column.
pub fn snippet(text: &str, error: &ParseError) -> String {
    let Some(line) = text.lines().nth(error.line.saturating_sub(1)) else {
        return String::new();
    };
    let number = error.line.to_string();
    let margin = " ".repeat(number.len());
    // Tabs stay tabs, so that the caret stands below its character whatever a tab is shown as.
    let blank: String = line
        .chars()
        .take(error.column.saturating_sub(1))
        .map(|c| if c == '\t' { c } else { ' ' })
        .collect();
    format!("{margin} |\n{number} | {line}\n{margin} | {blank}^")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_column() {
        let error = ParseError {
            line: 2,
            column: 4,
            reason: String::new(),
        };
        assert_eq!(
            snippet("graph\n\tx y\n", &error),
            "  |\n2 | \tx y\n  | \t  ^"
        );
        let beyond = ParseError {
            line: 9,
            ..error.clone()
        };
        assert_eq!(snippet("graph", &beyond), "");
    }
}
