//! Symbolic sizes, as SymPy expressions.
//!
//! An archive writes them in two notations: values as `srepr` (`Mul(Integer(2), Symbol('s27', positive=True, integer=True))`),
//! keys of `range_constraints` as infix (`2*s27`). Both parse to [`SymExpr`].

use std::fmt;
use std::str::FromStr;

/// A symbolic integer, float or boolean expression.
#[derive(Debug, Clone, PartialEq)]
pub enum SymExpr {
    /// A named size: `s27` comes from an input's shape, `u0` from data ("unbacked").
    Symbol(String),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A function of other expressions.
    Call(SymOp, Vec<SymExpr>),
}

macro_rules! sym_ops {
    ($($(#[$doc:meta])* $name:ident = $($spelling:literal)|+;)*) => {
        /// The functions that occur in symbolic expressions. The first spelling is SymPy's class name.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum SymOp {
            $($(#[$doc])* $name,)*
            /// A function that is not known here; whether that matters is for the reader of the value to decide.
            Other(String),
        }

        impl SymOp {
            fn from_name(name: &str) -> Self {
                match name {
                    $($($spelling)|+ => Self::$name,)*
                    other => Self::Other(other.to_owned()),
                }
            }

            /// SymPy's name of the function.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$name => [$($spelling),+][0],)*
                    Self::Other(name) => name,
                }
            }
        }
    };
}

sym_ops! {
    /// Sum of all arguments.
    Add = "Add";
    /// Product of all arguments.
    Mul = "Mul";
    /// Base to an exponent; a negative exponent is an exact quotient.
    Pow = "Pow" | "PowByNatural";
    /// Greatest argument.
    Max = "Max";
    /// Least argument.
    Min = "Min";
    /// Quotient rounded toward negative infinity.
    FloorDiv = "FloorDiv";
    /// Quotient that is known to be exact.
    CleanDiv = "CleanDiv";
    /// Quotient rounded toward positive infinity.
    CeilDiv = "CeilDiv";
    /// Remainder with the sign of the divisor; `Mod` has non-negative operands.
    Mod = "Mod" | "PythonMod";
    /// `(a floordiv b) mod c`.
    ModularIndexing = "ModularIndexing";
    /// Integer to float.
    ToFloat = "ToFloat";
    /// Quotient of two integers as a float.
    IntTrueDiv = "IntTrueDiv";
    /// Quotient of two floats.
    FloatTrueDiv = "FloatTrueDiv";
    /// Power of two floats.
    FloatPow = "FloatPow";
    /// Float to integer, toward zero.
    TruncToInt = "TruncToInt" | "trunc";
    /// Float to integer, downward.
    FloorToInt = "FloorToInt" | "floor";
    /// Float to integer, upward.
    CeilToInt = "CeilToInt" | "ceiling";
    /// Float to integer, to nearest, halves to even.
    RoundToInt = "RoundToInt";
    /// Square root as a float.
    Sqrt = "OpaqueUnaryFn_sqrt" | "sqrt";
    /// Magnitude.
    Abs = "Abs";
    /// `Where(condition, then, otherwise)`.
    Where = "Where";
    /// Equal.
    Eq = "Equality" | "Eq";
    /// Not equal.
    Ne = "Unequality" | "Ne";
    /// Less than or equal.
    Le = "LessThan" | "Le";
    /// Less than.
    Lt = "StrictLessThan" | "Lt";
    /// Greater than or equal.
    Ge = "GreaterThan" | "Ge";
    /// Greater than.
    Gt = "StrictGreaterThan" | "Gt";
    /// All arguments hold.
    And = "And";
    /// Any argument holds.
    Or = "Or";
    /// The argument does not hold.
    Not = "Not";
}

/// Why a symbolic expression could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("symbolic expression `{text}`: {reason} at character {at}")]
pub struct SymError {
    text: String,
    at: usize,
    reason: String,
}

impl SymExpr {
    /// Calls `f` with the name of every symbol in the expression, from left to right, repetitions included.
    pub fn for_each_symbol<'a>(&'a self, f: &mut impl FnMut(&'a str)) {
        match self {
            Self::Symbol(name) => f(name),
            Self::Call(_, args) => args.iter().for_each(|arg| arg.for_each_symbol(f)),
            Self::Int(_) | Self::Float(_) | Self::Bool(_) => {}
        }
    }
}

impl fmt::Display for SymExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) => f.write_str(name),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Call(op, args) => {
                write!(f, "{}(", op.name())?;
                for (i, arg) in args.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{arg}")?;
                }
                f.write_str(")")
            }
        }
    }
}

impl FromStr for SymExpr {
    type Err = SymError;

    /// Parses either notation; infix operators follow Python's precedence.
    fn from_str(text: &str) -> Result<Self, SymError> {
        let mut parser = Parser {
            text,
            at: 0,
            depth: 0,
        };
        let expr = parser.comparison()?;
        parser.space();
        if parser.at < text.len() {
            return Err(parser.error("something follows the expression"));
        }
        Ok(expr)
    }
}

/// Deeper nesting than this is not a size that anyone wrote; the limit keeps the parser's stack bounded.
const MAX_DEPTH: usize = 100;

/// More terms or factors than any size has.
const MAX_OPERANDS: usize = 1000;

/// Recursive descent over both notations at once: they share calls, names and numbers.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, reason: impl Into<String>) -> SymError {
        SymError {
            text: self.text.chars().take(200).collect(),
            at: self.at,
            reason: reason.into(),
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Consumes `token` if it comes next.
    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn comparison(&mut self) -> Result<SymExpr, SymError> {
        const RELATIONS: [(&str, SymOp); 6] = [
            ("<=", SymOp::Le),
            (">=", SymOp::Ge),
            ("==", SymOp::Eq),
            ("!=", SymOp::Ne),
            ("<", SymOp::Lt),
            (">", SymOp::Gt),
        ];
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("the expression is nested too deeply"));
        }
        let left = self.sum()?;
        let relation = RELATIONS.into_iter().find(|(token, _)| self.eat(token));
        let expr = match relation {
            Some((_, op)) => SymExpr::Call(op, vec![left, self.sum()?]),
            None => left,
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn sum(&mut self) -> Result<SymExpr, SymError> {
        let left = self.product()?;
        let mut terms = vec![left];
        loop {
            let term = if self.eat("+") {
                self.product()?
            } else if self.eat("-") {
                negate(self.product()?)
            } else {
                break;
            };
            self.append(&mut terms, term)?;
        }
        Ok(joined(SymOp::Add, terms))
    }

    fn product(&mut self) -> Result<SymExpr, SymError> {
        let left = self.unary()?;
        let mut factors = vec![left];
        let mut quotients = 0;
        loop {
            let op = if self.eat("//") {
                SymOp::FloorDiv
            } else if self.eat("/") {
                SymOp::IntTrueDiv
            } else if self.eat("%") {
                SymOp::Mod
            } else if self.eat("*") {
                let factor = self.unary()?;
                self.append(&mut factors, factor)?;
                continue;
            } else {
                return Ok(joined(SymOp::Mul, factors));
            };
            quotients += 1;
            if quotients > MAX_DEPTH {
                return Err(self.error("the expression is nested too deeply"));
            }
            let left = joined(SymOp::Mul, factors);
            factors = vec![SymExpr::Call(op, vec![left, self.unary()?])];
        }
    }

    /// Adds an operand of a sum or a product.
    fn append(&self, to: &mut Vec<SymExpr>, operand: SymExpr) -> Result<(), SymError> {
        if to.len() >= MAX_OPERANDS {
            return Err(self.error("the expression has too many terms"));
        }
        to.push(operand);
        Ok(())
    }

    fn unary(&mut self) -> Result<SymExpr, SymError> {
        let mut negative = false;
        while self.eat("-") {
            negative = !negative;
        }
        let sign = |expr| if negative { negate(expr) } else { expr };
        if self.next_is_digit() {
            // The sign belongs to the digits unless a power follows: the least integer has no positive twin.
            let digits = self.at;
            let value = self.number(negative)?;
            if !self.eat("**") {
                return Ok(value);
            }
            self.at = digits;
        }
        let base = self.atom()?;
        if !self.eat("**") {
            return Ok(sign(base));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("the expression is nested too deeply"));
        }
        let exponent = self.unary()?;
        self.depth -= 1;
        Ok(sign(SymExpr::Call(SymOp::Pow, vec![base, exponent])))
    }

    fn next_is_digit(&mut self) -> bool {
        self.space();
        self.rest()
            .starts_with(|c: char| c.is_ascii_digit() || c == '.')
    }

    fn atom(&mut self) -> Result<SymExpr, SymError> {
        if self.eat("(") {
            let inner = self.comparison()?;
            return if self.eat(")") {
                Ok(inner)
            } else {
                Err(self.error("`)` is missing"))
            };
        }
        if self.next_is_digit() {
            return self.number(false);
        }
        let start = self.at;
        let name = self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '.');
        match name {
            "" => Err(self.error("an expression is missing")),
            "true" | "True" => Ok(SymExpr::Bool(true)),
            "false" | "False" => Ok(SymExpr::Bool(false)),
            _ if self.eat("(") => {
                let call = match name {
                    "Symbol" | "Dummy" => self.symbol()?,
                    "Float" => self.float()?,
                    "Integer" => self.single(name)?,
                    _ => SymExpr::Call(SymOp::from_name(name), self.args()?),
                };
                rational(call).map_err(|reason| SymError {
                    at: start,
                    ..self.error(reason)
                })
            }
            _ => Ok(SymExpr::Symbol(name.to_owned())),
        }
    }

    /// An integer, or a float such as `1.5e-3`.
    fn number(&mut self, negative: bool) -> Result<SymExpr, SymError> {
        let start = self.at;
        self.take_while(|c| c.is_ascii_digit() || c == '.');
        if self.rest().starts_with(['e', 'E']) {
            self.at += 1;
            if self.rest().starts_with(['+', '-']) {
                self.at += 1;
            }
            self.take_while(|c| c.is_ascii_digit());
        }
        let digits = self.text.get(start..self.at).unwrap_or_default();
        let signed = if negative {
            format!("-{digits}")
        } else {
            digits.to_owned()
        };
        let value = if digits.contains(['.', 'e', 'E']) {
            signed.parse().ok().map(SymExpr::Float)
        } else {
            signed.parse().ok().map(SymExpr::Int)
        };
        value.ok_or_else(|| self.error(format!("`{signed}` is not a number of 64 bits")))
    }

    /// Arguments up to the closing parenthesis. Keyword arguments are assumptions about a symbol and are skipped.
    fn args(&mut self) -> Result<Vec<SymExpr>, SymError> {
        let mut args = Vec::new();
        if self.eat(")") {
            return Ok(args);
        }
        loop {
            if !self.keyword()? {
                args.push(self.comparison()?);
            }
            if self.eat(")") {
                return Ok(args);
            }
            if !self.eat(",") {
                return Err(self.error("`,` or `)` is missing"));
            }
        }
    }

    /// Skips `name=value`; says whether there was one.
    fn keyword(&mut self) -> Result<bool, SymError> {
        self.space();
        let start = self.at;
        let name = self.take_while(|c| c.is_alphanumeric() || c == '_');
        if name.is_empty() || !self.eat("=") || self.rest().starts_with('=') {
            self.at = start;
            return Ok(false);
        }
        self.comparison()?;
        Ok(true)
    }

    /// The arguments of a call that has exactly one.
    fn single(&mut self, name: &str) -> Result<SymExpr, SymError> {
        match <[SymExpr; 1]>::try_from(self.args()?) {
            Ok([arg]) => Ok(arg),
            Err(_) => Err(self.error(format!("`{name}` takes one argument"))),
        }
    }

    fn quoted(&mut self) -> Result<&'a str, SymError> {
        self.space();
        let quote = if self.eat("'") {
            '\''
        } else if self.eat("\"") {
            '"'
        } else {
            return Err(self.error("a quoted name is missing"));
        };
        let body = self.take_while(|c| c != quote);
        if self.rest().is_empty() {
            return Err(self.error("a quote is not closed"));
        }
        self.at += 1;
        Ok(body)
    }

    /// After a quoted first argument: keyword arguments up to the closing parenthesis.
    fn end_of_quoted(&mut self) -> Result<(), SymError> {
        if self.eat(")") {
            return Ok(());
        }
        if self.eat(",") && self.args()?.is_empty() {
            return Ok(());
        }
        Err(self.error("`)` is missing"))
    }

    fn symbol(&mut self) -> Result<SymExpr, SymError> {
        let name = self.quoted()?;
        self.end_of_quoted()?;
        Ok(SymExpr::Symbol(name.to_owned()))
    }

    fn float(&mut self) -> Result<SymExpr, SymError> {
        let digits = self.quoted()?;
        self.end_of_quoted()?;
        match digits.parse() {
            Ok(value) => Ok(SymExpr::Float(value)),
            Err(_) => Err(self.error(format!("`{digits}` is not a float"))),
        }
    }
}

/// The operands under one operator; a single one as it is.
fn joined(op: SymOp, mut operands: Vec<SymExpr>) -> SymExpr {
    match operands.pop() {
        Some(only) if operands.is_empty() => only,
        Some(last) => {
            operands.push(last);
            SymExpr::Call(op, operands)
        }
        None => SymExpr::Call(op, operands),
    }
}

fn negate(expr: SymExpr) -> SymExpr {
    match expr {
        SymExpr::Int(value) if value != i64::MIN => SymExpr::Int(-value),
        SymExpr::Float(value) => SymExpr::Float(-value),
        other => SymExpr::Call(SymOp::Mul, vec![SymExpr::Int(-1), other]),
    }
}

/// `Rational(p, q)` is written as the product that it is.
fn rational(expr: SymExpr) -> Result<SymExpr, String> {
    match expr {
        SymExpr::Call(SymOp::Other(name), args) if name == "Rational" => match args.as_slice() {
            [SymExpr::Int(p), SymExpr::Int(q)] if *q > 0 => Ok(SymExpr::Call(
                SymOp::Mul,
                vec![
                    SymExpr::Int(*p),
                    SymExpr::Call(SymOp::Pow, vec![SymExpr::Int(*q), SymExpr::Int(-1)]),
                ],
            )),
            _ => Err("`Rational` takes two integers, the second positive".to_owned()),
        },
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match text.parse::<SymExpr>() {
            Ok(expr) => expr.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn reads_srepr() {
        assert_eq!(
            shown("Mul(Integer(2), Symbol('s27', positive=True, integer=True))"),
            "Mul(2, s27)"
        );
        assert_eq!(
            shown("Add(Symbol('u0', integer=True), Integer(-1))"),
            "Add(u0, -1)"
        );
        assert_eq!(
            shown("IntTrueDiv(ToFloat(Symbol('s0')), Float('0.5', precision=53))"),
            "IntTrueDiv(ToFloat(s0), 0.5)"
        );
        assert_eq!(
            shown("LessThan(Max(Integer(1), Symbol('a')), FloorDiv(Symbol('b'), Integer(2)))"),
            "LessThan(Max(1, a), FloorDiv(b, 2))"
        );
        assert_eq!(
            shown("Mul(Rational(1, 2), Symbol('a'))"),
            "Mul(Mul(1, Pow(2, -1)), a)"
        );
        assert_eq!(shown("PythonMod(Symbol('a'), Integer(3))"), "Mod(a, 3)");
        assert_eq!(shown("And(true, Not(false))"), "And(true, Not(false))");
        assert_eq!(shown("Surprise(Symbol('a'))"), "Surprise(a)");
    }

    #[test]
    fn reads_infix() {
        assert_eq!(shown("2*s6"), "Mul(2, s6)");
        assert_eq!(shown("s0 - 1"), "Add(s0, -1)");
        assert_eq!(shown("(s0 + 3)//2 % 5"), "Mod(FloorDiv(Add(s0, 3), 2), 5)");
        assert_eq!(shown("-s0**2"), "Mul(-1, Pow(s0, 2))");
        assert_eq!(shown("Max(1, s0) <= 4"), "LessThan(Max(1, s0), 4)");
        assert_eq!(shown("-9223372036854775808"), "-9223372036854775808");
    }

    #[test]
    fn refuses_with_a_place() {
        assert_eq!(
            shown("Add(Integer(1)"),
            "error: symbolic expression `Add(Integer(1)`: `,` or `)` is missing at character 14"
        );
        assert_eq!(
            shown("Symbol('s0"),
            "error: symbolic expression `Symbol('s0`: a quote is not closed at character 10"
        );
        assert!(shown("").contains("an expression is missing"));
        assert!(shown("99999999999999999999").contains("not a number of 64 bits"));
        assert!(shown("s0 s1").contains("something follows"));
        assert!(shown(&"(".repeat(5000)).contains("nested too deeply"));
        assert!(shown(&format!("{}1", "2**".repeat(5000))).contains("nested too deeply"));
    }
}
