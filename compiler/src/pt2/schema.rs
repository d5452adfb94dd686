//! Operator schemas: argument names, types, defaults, and what aliases or mutates what.
//!
//! An archive leaves out every argument that equals its default, and never says that an operator writes to an argument or returns a view of one.
//! Both stand in the operators' schemas. The table `schemas.txt` holds one schema per line, sorted by name; `tests/scripts/aten_schemas.py`
//! writes it.

use std::iter::Peekable;
use std::str::Chars;

/// One schema per line: `aten.add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor`.
const TABLE: &str = include_str!("schemas.txt");

/// An operator's signature.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// `namespace.operator.overload`, as in a node's target after `torch.ops.`.
    pub name: String,
    /// The arguments in order.
    pub args: Vec<Arg>,
    /// The results in order.
    pub returns: Vec<Return>,
}

/// One argument.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// Name of the argument.
    pub name: String,
    /// Its type.
    pub ty: ArgType,
    /// Its value if the call does not give one; `None` if it must.
    pub default: Option<Literal>,
    /// Set where a result shares the argument's memory, or the operator writes to it.
    pub alias: Option<Alias>,
}

/// One result.
#[derive(Debug, Clone, PartialEq)]
pub struct Return {
    /// Its type.
    pub ty: ArgType,
    /// Set where the result shares an argument's memory.
    pub alias: Option<Alias>,
}

/// Values with the same `set` share memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Name of the set.
    pub set: char,
    /// The operator writes to it.
    pub write: bool,
}

/// A type of arguments and results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgType {
    /// Type of one element.
    pub base: BaseType,
    /// The value may be absent.
    pub optional: bool,
    /// The value is a list.
    pub list: bool,
    /// For a list: elements may be absent.
    pub optional_elements: bool,
    /// For a list: a single value stands for this many equal ones.
    pub length: Option<usize>,
}

/// An element type of arguments and results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the schema language")]
pub enum BaseType {
    Tensor,
    Int,
    SymInt,
    Float,
    Bool,
    SymBool,
    Scalar,
    ScalarType,
    Str,
    Device,
    Layout,
    MemoryFormat,
    Generator,
    Storage,
}

/// A default value.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// Absent.
    None,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Str(String),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A constant of the schema language, such as `contiguous_format`.
    Name(String),
}

impl Schema {
    /// The schema of `name` (`aten.add.Tensor`), if the table has it.
    pub fn find(name: &str) -> Option<Self> {
        // Lines are sorted by what precedes the first parenthesis.
        let mut low = 0;
        let mut high = TABLE.len();
        while low < high {
            let middle = low + (high - low) / 2;
            let start = TABLE
                .get(..middle)?
                .rfind('\n')
                .map_or(0, |at| at + 1)
                .max(low);
            let end = TABLE
                .get(start..)?
                .find('\n')
                .map_or(TABLE.len(), |at| start + at);
            let line = TABLE.get(start..end)?;
            let key = line.split('(').next().unwrap_or_default();
            match key.cmp(name) {
                std::cmp::Ordering::Equal => return Self::parse(line).ok(),
                std::cmp::Ordering::Less => low = end + 1,
                std::cmp::Ordering::Greater => high = start,
            }
        }
        None
    }

    /// Names of all schemas in the table, sorted.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.lines().filter_map(|line| line.split('(').next())
    }

    /// Parses one line of the table.
    ///
    /// # Errors
    ///
    /// What was expected and what follows instead.
    pub fn parse(line: &str) -> Result<Self, String> {
        Parser {
            chars: line.chars().peekable(),
            line,
        }
        .schema()
    }

    /// The argument of that name.
    pub fn arg(&self, name: &str) -> Option<&Arg> {
        self.args.iter().find(|arg| arg.name == name)
    }
}

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
    line: &'a str,
}

impl Parser<'_> {
    fn fail<T>(&self, expected: &str) -> Result<T, String> {
        let rest: String = self.chars.clone().take(30).collect();
        Err(format!(
            "schema `{}`: expected {expected} at `{rest}`",
            self.line
        ))
    }

    fn space(&mut self) {
        while self.chars.next_if(|c| *c == ' ').is_some() {}
    }

    /// Consumes `token` if it comes next.
    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let mut ahead = self.chars.clone();
        let found = token.chars().all(|c| ahead.next() == Some(c));
        if found {
            self.chars = ahead;
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.eat(token) {
            Ok(())
        } else {
            self.fail(&format!("`{token}`"))
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        std::iter::from_fn(|| self.chars.next_if(|c| keep(*c))).collect()
    }

    fn word(&mut self) -> Result<String, String> {
        self.space();
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        if word.is_empty() {
            self.fail("a name")
        } else {
            Ok(word)
        }
    }

    fn schema(mut self) -> Result<Schema, String> {
        let name = self.word()?;
        self.expect("(")?;
        let mut args = Vec::new();
        while !self.eat(")") {
            if !args.is_empty() {
                // Also after the `*` that starts the keyword arguments.
                self.eat(",");
            }
            if self.eat("*") {
                self.eat(",");
            }
            args.push(self.arg()?);
        }
        self.expect("->")?;
        let mut returns = Vec::new();
        if self.eat("(") {
            while !self.eat(")") {
                if !returns.is_empty() {
                    self.expect(",")?;
                }
                returns.push(self.ret()?);
            }
        } else {
            returns.push(self.ret()?);
        }
        self.space();
        if self.chars.peek().is_some() {
            return self.fail("the end");
        }
        Ok(Schema {
            name,
            args,
            returns,
        })
    }

    fn arg(&mut self) -> Result<Arg, String> {
        let (ty, alias) = self.ty()?;
        let name = self.word()?;
        let default = if self.eat("=") {
            Some(self.literal()?)
        } else {
            None
        };
        Ok(Arg {
            name,
            ty,
            default,
            alias,
        })
    }

    fn ret(&mut self) -> Result<Return, String> {
        let (ty, alias) = self.ty()?;
        // Results can have names; nothing depends on them.
        self.space();
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        Ok(Return { ty, alias })
    }

    fn ty(&mut self) -> Result<(ArgType, Option<Alias>), String> {
        let base = match self.word()?.as_str() {
            "Tensor" => BaseType::Tensor,
            "int" => BaseType::Int,
            "SymInt" => BaseType::SymInt,
            "float" => BaseType::Float,
            "bool" => BaseType::Bool,
            "SymBool" => BaseType::SymBool,
            "Scalar" => BaseType::Scalar,
            "ScalarType" => BaseType::ScalarType,
            "str" => BaseType::Str,
            "Device" => BaseType::Device,
            "Layout" => BaseType::Layout,
            "MemoryFormat" => BaseType::MemoryFormat,
            "Generator" => BaseType::Generator,
            "Storage" => BaseType::Storage,
            other => return self.fail(&format!("a known type instead of `{other}`")),
        };
        let alias = if self.eat("(") {
            Some(self.alias()?)
        } else {
            None
        };
        let mut ty = ArgType {
            base,
            optional: false,
            list: false,
            optional_elements: false,
            length: None,
        };
        loop {
            if self.eat("?") {
                ty.optional = true;
            } else if self.eat("[") {
                ty.length = self.take_while(|c| c.is_ascii_digit()).parse().ok();
                self.expect("]")?;
                ty.optional_elements = std::mem::take(&mut ty.optional);
                ty.list = true;
            } else {
                return Ok((ty, alias));
            }
        }
    }

    /// After `(`: `a)`, `a!)`, `a -> *)` for a list of views, `a|b)` for either.
    fn alias(&mut self) -> Result<Alias, String> {
        let Some(set) = self.word()?.chars().next() else {
            return self.fail("an alias set");
        };
        let write = self.eat("!");
        self.take_while(|c| c != ')');
        self.expect(")")?;
        Ok(Alias { set, write })
    }

    fn literal(&mut self) -> Result<Literal, String> {
        if self.eat("[") {
            let mut ints = Vec::new();
            while !self.eat("]") {
                self.eat(",");
                self.space();
                let digits = self.take_while(|c| c.is_ascii_digit() || c == '-');
                match digits.parse() {
                    Ok(int) => ints.push(int),
                    Err(_) => return self.fail("an integer"),
                }
            }
            return Ok(Literal::Ints(ints));
        }
        for quote in ['"', '\''] {
            if self.eat(&quote.to_string()) {
                let text = self.take_while(|c| c != quote);
                self.expect(&quote.to_string())?;
                return Ok(Literal::Str(text));
            }
        }
        let word = self.take_while(|c| c != ',' && c != ')');
        Ok(match word.as_str() {
            "None" => Literal::None,
            "True" => Literal::Bool(true),
            "False" => Literal::Bool(false),
            _ => {
                if let Ok(int) = word.parse() {
                    Literal::Int(int)
                } else if let (Ok(float), true) = (
                    word.parse(),
                    word.starts_with(|c: char| c.is_ascii_digit() || c == '-'),
                ) {
                    Literal::Float(float)
                } else {
                    Literal::Name(word)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_parses_and_is_found() {
        let mut last = "";
        for name in Schema::names() {
            assert!(last < name, "{last} before {name}");
            last = name;
        }
        for line in TABLE.lines() {
            let schema = Schema::parse(line).unwrap();
            assert_eq!(Schema::find(&schema.name), Some(schema));
        }
        assert_eq!(Schema::find("aten.no_such_thing.default"), None);
        assert_eq!(Schema::find(""), None);
    }

    #[test]
    fn defaults_and_aliases_are_read() {
        let add = Schema::find("aten.add_.Tensor").unwrap();
        assert_eq!(add.arg("alpha").unwrap().default, Some(Literal::Int(1)));
        assert_eq!(
            add.arg("self").unwrap().alias,
            Some(Alias {
                set: 'a',
                write: true
            })
        );
        assert_eq!(
            add.returns[0].alias,
            Some(Alias {
                set: 'a',
                write: true
            })
        );

        let split = Schema::find("aten.split.Tensor").unwrap();
        assert_eq!(
            split.arg("self").unwrap().alias,
            Some(Alias {
                set: 'a',
                write: false
            })
        );
        assert!(split.returns[0].ty.list);

        let index = Schema::find("aten.index.Tensor").unwrap();
        let indices = &index.arg("indices").unwrap().ty;
        assert!(indices.list && indices.optional_elements && !indices.optional);

        let pool = Schema::find("aten.max_pool2d.default").unwrap();
        assert_eq!(
            pool.arg("stride").unwrap().default,
            Some(Literal::Ints(vec![]))
        );
        assert_eq!(pool.arg("dilation").unwrap().ty.length, Some(2));

        let gelu = Schema::find("aten.gelu.default").unwrap();
        assert_eq!(
            gelu.arg("approximate").unwrap().default,
            Some(Literal::Str("none".to_owned()))
        );
        let norm = Schema::find("aten.layer_norm.default").unwrap();
        assert_eq!(norm.arg("eps").unwrap().default, Some(Literal::Float(1e-5)));
    }

    #[test]
    fn a_bad_line_says_what_was_expected() {
        let error = Schema::parse("aten.x.default(Surprise self) -> Tensor").unwrap_err();
        assert!(
            error.contains("a known type instead of `Surprise`"),
            "{error}"
        );
    }
}
