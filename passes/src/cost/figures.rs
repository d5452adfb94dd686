//! What a table of costs holds, and when it is well-formed.

use std::borrow::Cow;

/// A figure and its source.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// In the unit that its row in [`FIGURES`] says; positive and finite.
    pub value: f64,
    /// Who measured or stated it, on what.
    pub source: Cow<'static, str>,
}

/// What a figure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FigureInfo {
    /// Its name in a file.
    pub name: &'static str,
    /// Its meaning, with the unit.
    pub doc: &'static str,
}

/// Why a table can't be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FigureError {
    /// A figure is not there.
    #[error("the figure `{0}` is missing")]
    Missing(&'static str),
    /// A figure is there more than once.
    #[error("the figure `{0}` is there twice")]
    Twice(&'static str),
    /// A figure that no table has.
    #[error("there is no figure `{0}`")]
    Unknown(String),
    /// A figure that is no time and no rate.
    #[error("`{name}` is {value}; a figure is a number from {LEAST} to {MOST}")]
    Range {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: f64,
    },
}

/// The least that a figure may be: far below what any machine has, and so much above 0 that a cost stays a number.
pub const LEAST: f64 = 1e-6;

/// The most that a figure may be.
pub const MOST: f64 = 1e9;

macro_rules! figures {
    ($($(#[doc = $doc:literal])+ $name:ident;)*) => {
        /// What a target can do.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Table {
            /// Whose figures these are, for reports.
            pub name: Cow<'static, str>,
            $($(#[doc = $doc])+ pub $name: Figure,)*
        }

        /// The figures of a table, in order.
        pub const FIGURES: &[FigureInfo] = &[
            $(FigureInfo { name: stringify!($name), doc: concat!($($doc),+) },)*
        ];

        impl Table {
            /// A table of figures by name.
            ///
            /// # Errors
            /// A figure is missing, there twice, not known, or not from [`LEAST`] to [`MOST`].
            pub fn new(name: impl Into<Cow<'static, str>>, figures: impl IntoIterator<Item = (String, Figure)>) -> Result<Table, FigureError> {
                $(let mut $name = None;)*
                for (name, figure) in figures {
                    match name.as_str() {
                        $(stringify!($name) => {
                            let first = $name.replace(checked(stringify!($name), figure)?);
                            if first.is_some() {
                                return Err(FigureError::Twice(stringify!($name)));
                            }
                        })*
                        _ => return Err(FigureError::Unknown(name)),
                    }
                }
                Ok(Table { name: name.into(), $($name: $name.ok_or(FigureError::Missing(stringify!($name)))?,)* })
            }

            /// The figures with their names, in the order of [`FIGURES`].
            pub fn figures(&self) -> Vec<(&'static str, &Figure)> {
                vec![$((stringify!($name), &self.$name),)*]
            }
        }
    };
}

figures! {
    /// Time that the host spends on one primitive, a view included: nanoseconds.
    host_ns;
    /// Time that the device spends on a kernel that does nothing: nanoseconds.
    launch_ns;
    /// Memory traffic of a copy, read and written bytes together: 10⁹ bytes a second.
    copy_gbs;
    /// The same where the rows that are read don't follow one another: 10⁹ bytes a second.
    strided_gbs;
    /// Values of a function such as e^x on f32, from and to near memory: 10⁹ a second.
    pointwise_gops;
    /// Matrix product of many rows of f32: 10⁹ multiplications and additions a second.
    matmul_f32_gflops;
    /// The same of f16.
    matmul_f16_gflops;
    /// The same of bf16.
    matmul_bf16_gflops;
    /// Product of one row with a weight of 4 bits: 10⁹ bytes read and written a second.
    quantized_row_gbs;
    /// Product of many rows with a weight of 4 bits: 10⁹ multiplications and additions a second.
    quantized_gflops;
    /// Attention of many queries, head width 64, f16 on a GPU and f32 on the CPU: 10⁹ multiplications and additions a second.
    attention_gflops;
}

fn checked(name: &'static str, figure: Figure) -> Result<Figure, FigureError> {
    if (LEAST..=MOST).contains(&figure.value) {
        return Ok(figure);
    }
    Err(FigureError::Range {
        name,
        value: figure.value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::table;
    use crate::pass::Target;

    fn figures() -> Vec<(String, Figure)> {
        let table = table(Target::Cpu);
        table
            .figures()
            .into_iter()
            .map(|(n, f)| (n.to_string(), f.clone()))
            .collect()
    }

    #[test]
    fn a_table_is_its_figures() {
        for target in Target::ALL {
            let table = table(target);
            let all = table
                .figures()
                .into_iter()
                .map(|(n, f)| (n.to_string(), f.clone()));
            assert_eq!(Table::new(table.name.clone(), all).unwrap(), *table);
            for (name, figure) in table.figures() {
                assert!(figure.source.len() > 8, "{target}: {name} has no source");
            }
        }
    }

    #[test]
    fn what_is_no_figure_is_refused() {
        for index in 0..FIGURES.len() {
            let name = FIGURES[index].name;
            let mut without = figures();
            without.remove(index);
            assert_eq!(Table::new("t", without), Err(FigureError::Missing(name)));
            for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 1e-300] {
                let mut all = figures();
                all[index].1.value = value;
                let error = Table::new("t", all).unwrap_err();
                assert!(
                    matches!(error, FigureError::Range { name: n, .. } if n == name),
                    "{error}"
                );
            }
        }
        let mut more = figures();
        more.push(("speed".into(), more[0].1.clone()));
        assert_eq!(
            Table::new("t", more),
            Err(FigureError::Unknown("speed".into()))
        );
    }
}
