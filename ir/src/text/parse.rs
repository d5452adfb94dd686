//! Reading.

use super::lexer::{Spanned, Token, lex};
use super::nearest::nearest;
use crate::attr::{Attr, F64, Scalar};
use crate::dim::{Dim, Range, Symbol};
use crate::dtype::DType;
use crate::error::ParseError;
use crate::graph::{Constant, Graph, Loc, Payload, State, Value};
use crate::ops::Op;
use crate::ops::table::TABLE;
use crate::region::Region;
use crate::require::Requirement;
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How deep expressions and types may nest: a bound on recursion for hostile texts.
const MAX_DEPTH: usize = 64;

/// Reads a graph. The result is well-typed but not yet verified.
///
/// Errors: the first place that doesn't follow the grammar, names something unknown, or applies an op to what it doesn't take.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    let mut cursor = Cursor::new(text)?;
    let graph = graph(&mut cursor)?.0;
    cursor.end()?;
    Ok(graph)
}

/// Reads a text of several graphs, one after the other, as case files hold them.
///
/// Errors: as [`parse`]; a text without any graph.
pub fn parse_all(text: &str) -> Result<Vec<Graph>, ParseError> {
    Ok(parse_named(text)?.into_iter().map(|(g, _)| g).collect())
}

/// What the values of a graph are called in the text that it was read from, without the `%`.
pub type ValueNames = BTreeMap<String, Value>;

/// As [`parse_all`], each graph with the names that its values have in the text.
///
/// Errors: as [`parse_all`].
pub fn parse_named(text: &str) -> Result<Vec<(Graph, ValueNames)>, ParseError> {
    let mut cursor = Cursor::new(text)?;
    let mut graphs = vec![graph(&mut cursor)?];
    while !cursor.at_end() {
        graphs.push(graph(&mut cursor)?);
    }
    Ok(graphs)
}

/// Reads one attribute literal.
///
/// Errors: not a literal, or something after it.
pub fn parse_attr(text: &str) -> Result<Attr, ParseError> {
    let mut cursor = Cursor::new(text)?;
    let attr = cursor.attr()?;
    cursor.end()?;
    Ok(attr)
}

/// Reads `name=literal, …`, without brackets.
///
/// Errors: as [`parse_attr`].
pub fn parse_attrs(text: &str) -> Result<Vec<(String, Attr)>, ParseError> {
    let mut cursor = Cursor::new(text)?;
    let mut out = Vec::new();
    while !cursor.at_end() {
        let name = cursor.word()?;
        cursor.expect('=')?;
        out.push((name, cursor.attr()?));
        if !cursor.eat(',') {
            break;
        }
    }
    cursor.end()?;
    Ok(out)
}

/// A place in a text, with the pieces of the grammar that other readers (of patterns, of case files) share.
pub struct Cursor {
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
}

impl Cursor {
    /// The start of `text`.
    ///
    /// Errors: a character or a number that is no token.
    pub fn new(text: &str) -> Result<Cursor, ParseError> {
        Ok(Cursor {
            tokens: lex(text)?,
            at: 0,
            depth: 0,
        })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    fn peek2(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].token
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    /// An error at the current token.
    pub fn error(&self, reason: impl Into<String>) -> ParseError {
        self.error_at(self.at, reason)
    }

    fn error_at(&self, at: usize, reason: impl Into<String>) -> ParseError {
        let t = &self.tokens[at.min(self.tokens.len() - 1)];
        ParseError {
            line: t.line,
            column: t.column,
            reason: reason.into(),
        }
    }

    /// Whether the text is used up.
    pub fn at_end(&self) -> bool {
        *self.peek() == Token::End
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), ParseError> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.error("unexpected text after the end"))
        }
    }

    /// Takes the character if it is next.
    pub fn eat(&mut self, c: char) -> bool {
        let found = *self.peek() == Token::Punct(c);
        if found {
            self.at += 1;
        }
        found
    }

    /// The character must be next.
    pub fn expect(&mut self, c: char) -> Result<(), ParseError> {
        if self.eat(c) {
            Ok(())
        } else {
            Err(self.error(format!("expected `{c}`")))
        }
    }

    /// Takes the word if it is next.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(w) if w == word);
        if found {
            self.at += 1;
        }
        found
    }

    /// Whether a word is next.
    pub fn at_word(&self) -> bool {
        matches!(self.peek(), Token::Word(_))
    }

    /// A word.
    pub fn word(&mut self) -> Result<String, ParseError> {
        match self.peek().clone() {
            Token::Word(w) => {
                self.at += 1;
                Ok(w)
            }
            _ => Err(self.error("expected a word")),
        }
    }

    /// A quoted string.
    pub fn string(&mut self) -> Result<String, ParseError> {
        match self.peek().clone() {
            Token::Str(s) => {
                self.at += 1;
                Ok(s)
            }
            _ => Err(self.error("expected a quoted string")),
        }
    }

    fn value_name(&mut self) -> Result<String, ParseError> {
        match self.peek().clone() {
            Token::Value(v) => {
                self.at += 1;
                Ok(v)
            }
            _ => Err(self.error("expected a value such as `%3`")),
        }
    }

    fn deeper<T>(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error(format!("nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let out = f(self);
        self.depth -= 1;
        out
    }

    /// An attribute literal.
    pub fn attr(&mut self) -> Result<Attr, ParseError> {
        self.deeper(|c| match (c.peek().clone(), c.peek2().clone()) {
            (Token::Str(s), _) => {
                c.at += 1;
                Ok(Attr::Str(s.into()))
            }
            (Token::Punct('['), _) => {
                c.at += 1;
                let mut items = Vec::new();
                while !c.eat(']') {
                    items.push(c.attr()?);
                    if !c.eat(',') {
                        c.expect(']')?;
                        break;
                    }
                }
                Ok(Attr::List(items))
            }
            (Token::Punct('('), _) => c.ty().map(Attr::Type),
            (Token::Punct('$'), Token::Int(n)) => {
                let n = usize::try_from(n).map_err(|_| c.error("no argument has this number"))?;
                c.at += 2;
                Ok(Attr::Arg(n))
            }
            (Token::Float(x), _) => {
                c.at += 1;
                Ok(Attr::Float(F64::new(x)))
            }
            (Token::Punct('-'), Token::Float(x)) => {
                c.at += 2;
                Ok(Attr::Float(F64::new(-x)))
            }
            (Token::Punct('-'), Token::Word(w)) if w == "inf" => {
                c.at += 2;
                Ok(Attr::Float(F64::new(f64::NEG_INFINITY)))
            }
            (Token::Word(w), Token::Str(_)) if w == "graph" => {
                let at = c.at;
                let (graph, _) = graph(c)?;
                let region = graph
                    .verify()
                    .map_err(|e| e.to_string())
                    .and_then(|()| Region::new(graph).map_err(|e| e.reason.to_string()));
                region.map(Attr::Region).map_err(|e| c.error_at(at, e))
            }
            (Token::Word(w), after) => {
                let literal = match w.as_str() {
                    "none" => Attr::None,
                    "true" => Attr::Bool(true),
                    "false" => Attr::Bool(false),
                    "inf" => Attr::Float(F64::new(f64::INFINITY)),
                    "nan" => Attr::Float(F64::new(f64::NAN)),
                    "int" => return c.ty().map(Attr::Type),
                    _ => match DType::from_name(&w) {
                        Some(_) if after == Token::Punct('[') => return c.ty().map(Attr::Type),
                        Some(d) => Attr::DType(d),
                        // No integer has a bracket behind it.
                        None if after == Token::Punct('[') => return c.ty().map(Attr::Type),
                        None => return c.dim().map(Attr::Int),
                    },
                };
                c.at += 1;
                Ok(literal)
            }
            _ => c.dim().map(Attr::Int),
        })
    }

    /// An integer expression: sums and differences of products of integers, symbols and `floordiv`, `mod`, `min`, `max`.
    pub fn dim(&mut self) -> Result<Dim, ParseError> {
        self.deeper(|c| {
            let mut sum = Dim::from(0i64);
            let mut negative = c.eat('-');
            loop {
                let product = c.product()?;
                sum = if negative {
                    &sum - &product
                } else {
                    &sum + &product
                };
                negative = c.eat('-');
                if !negative && !c.eat('+') {
                    return Ok(sum);
                }
            }
        })
    }

    fn product(&mut self) -> Result<Dim, ParseError> {
        let mut product = self.atom()?;
        while self.eat('*') {
            product = &product * &self.atom()?;
        }
        Ok(product)
    }

    fn atom(&mut self) -> Result<Dim, ParseError> {
        match self.peek().clone() {
            Token::Int(n) => {
                self.at += 1;
                Ok(Dim::from(n))
            }
            Token::Word(w) => {
                let function: Option<fn(&Dim, &Dim) -> Dim> = match w.as_str() {
                    "floordiv" => Some(Dim::floor_div),
                    "mod" => Some(Dim::modulo),
                    "min" => Some(Dim::minimum),
                    "max" => Some(Dim::maximum),
                    _ => None,
                };
                self.at += 1;
                let Some(function) = function else {
                    return Ok(Dim::symbol(w.as_str()));
                };
                self.expect('(')?;
                let a = self.dim()?;
                self.expect(',')?;
                let b = self.dim()?;
                self.expect(')')?;
                Ok(function(&a, &b))
            }
            _ => Err(self.error("expected an integer or a symbol")),
        }
    }

    /// A type: `f32[2, s0]`, `int(s0)` or `(type, …)`.
    pub fn ty(&mut self) -> Result<Type, ParseError> {
        self.deeper(|c| {
            if c.eat('(') {
                let mut items = Vec::new();
                while !c.eat(')') {
                    items.push(c.ty()?);
                    if !c.eat(',') {
                        c.expect(')')?;
                        break;
                    }
                }
                return Ok(Type::Tuple(items));
            }
            if c.eat_word("int") {
                c.expect('(')?;
                let d = c.dim()?;
                c.expect(')')?;
                return Ok(Type::Int(d));
            }
            c.tensor_type().map(Type::Tensor)
        })
    }

    /// A tensor type: `f32[2, s0]`.
    pub fn tensor_type(&mut self) -> Result<TensorType, ParseError> {
        let at = self.at;
        let word = self.word()?;
        let dtype = DType::from_name(&word)
            .ok_or_else(|| self.error_at(at, format!("no dtype `{word}`")))?;
        self.expect('[')?;
        let mut shape = Vec::new();
        while !self.eat(']') {
            shape.push(self.dim()?);
            if !self.eat(',') {
                self.expect(']')?;
                break;
            }
        }
        Ok(TensorType { dtype, shape })
    }

    fn integer(&mut self) -> Result<i64, ParseError> {
        let d = self.dim()?;
        d.as_const().ok_or_else(|| self.error("expected a number"))
    }
}

fn graph(c: &mut Cursor) -> Result<(Graph, ValueNames), ParseError> {
    if !c.eat_word("graph") {
        return Err(c.error("expected `graph`"));
    }
    let mut g = Graph::new(c.string()?);
    c.expect('{')?;
    let mut names = ValueNames::new();
    while !c.eat('}') {
        let at = c.at;
        match c.next() {
            Token::Value(name) => {
                c.expect('=')?;
                let value = node(c, &mut g, &names)?;
                if names.insert(name.clone(), value).is_some() {
                    return Err(c.error_at(at, format!("%{name} is defined twice")));
                }
            }
            Token::Word(w) => match w.as_str() {
                "symbol" => {
                    let name = c.word()?;
                    let range = range(c)?;
                    g.declare_symbol(name, range);
                }
                "require" => {
                    let dim = c.dim()?;
                    let range = range(c)?;
                    g.requirements.push(Requirement { dim, range });
                }
                "data" => data(c, &mut g)?,
                "state" => {
                    let name: Symbol = c.string()?.into();
                    c.expect(':')?;
                    let ty = c.tensor_type()?;
                    let init = if c.eat('=') {
                        Some(c.string()?.into())
                    } else {
                        None
                    };
                    g.states.push(State {
                        name,
                        ty,
                        init,
                        next: None,
                    });
                }
                "next" => {
                    let name = c.string()?;
                    c.expect('=')?;
                    let value = lookup(c, &names)?;
                    let state = g.states.iter_mut().find(|s| *s.name == *name);
                    let state =
                        state.ok_or_else(|| c.error_at(at, format!("no state \"{name}\"")))?;
                    state.next = Some(value);
                }
                "output" => {
                    let name = c.string()?;
                    c.expect('=')?;
                    let value = lookup(c, &names)?;
                    g.output(name, value);
                }
                _ => return Err(c.error_at(at, format!("unknown statement `{w}`"))),
            },
            _ => return Err(c.error_at(at, "expected a statement or `}`")),
        }
    }
    Ok((g, names))
}

fn lookup(c: &mut Cursor, names: &ValueNames) -> Result<Value, ParseError> {
    let at = c.at;
    let name = c.value_name()?;
    names
        .get(&name)
        .copied()
        .ok_or_else(|| c.error_at(at, format!("%{name} is not defined before its use")))
}

fn node(c: &mut Cursor, g: &mut Graph, names: &ValueNames) -> Result<Value, ParseError> {
    let at = c.at;
    let name = c.word()?;
    let info = Op::find(&name).ok_or_else(|| {
        let names = TABLE.iter().map(|row| row.name);
        c.error_at(at, format!("no op `{name}`{}", meant(&name, names)))
    })?;
    let mut attrs: Vec<(String, Attr)> = Vec::new();
    if c.eat('[') {
        while !c.eat(']') {
            let place = c.at;
            let attr = c.word()?;
            if !info.attrs.iter().any(|(n, _)| *n == attr) {
                let names = info.attrs.iter().map(|(n, _)| *n);
                let reason = format!("{name} has no attribute `{attr}`{}", meant(&attr, names));
                return Err(c.error_at(place, reason));
            }
            if attrs.iter().any(|(given, _)| *given == attr) {
                return Err(c.error_at(place, format!("`{attr}` is given twice")));
            }
            c.expect('=')?;
            attrs.push((attr, c.attr()?));
            if !c.eat(',') {
                c.expect(']')?;
                break;
            }
        }
    }
    let mut args = Vec::new();
    if c.eat('(') {
        while !c.eat(')') {
            args.push(lookup(c, names)?);
            if !c.eat(',') {
                c.expect(')')?;
                break;
            }
        }
    }
    let ty = if c.eat(':') { Some(c.ty()?) } else { None };
    let loc = if c.eat_word("at") {
        Loc::module(c.string()?)
    } else {
        Loc::default()
    };
    let attrs: Vec<(&str, Attr)> = attrs.iter().map(|(n, a)| (n.as_str(), a.clone())).collect();
    let op = Op::build(&name, &attrs).map_err(|e| c.error_at(at, e.to_string()))?;
    let value = g
        .add(op, &args, &loc)
        .map_err(|e| c.error_at(at, e.to_string()))?;
    match ty {
        Some(ty) if ty != *g.ty(value) => {
            Err(c.error_at(at, format!("the type is {}, not {ty}", g.ty(value))))
        }
        _ => Ok(value),
    }
}

/// `; did you mean …?`, where something near is known.
fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |n| format!("; did you mean `{n}`?"))
}

/// ` in 0..=5`, or without an upper end.
fn range(c: &mut Cursor) -> Result<Range, ParseError> {
    if !c.eat_word("in") {
        return Err(c.error("expected `in`"));
    }
    let min = c.integer()?;
    if c.next() != Token::RangeTo {
        return Err(c.error("expected `..=`"));
    }
    let max = if c.eat_word("inf") {
        i64::MAX
    } else {
        c.integer()?
    };
    Ok(Range { min, max })
}

fn data(c: &mut Cursor, g: &mut Graph) -> Result<(), ParseError> {
    let at = c.at;
    let name: Symbol = c.string()?.into();
    c.expect(':')?;
    let ty = c.tensor_type()?;
    let mut payload: Option<Arc<dyn Payload>> = None;
    if c.eat('=') {
        let Attr::List(items) = c.attr()? else {
            return Err(c.error_at(at, "expected a list of numbers"));
        };
        let shape = ty
            .static_shape()
            .ok_or_else(|| c.error_at(at, "a constant's type is static"))?;
        let numbers = items
            .iter()
            .map(<Scalar as crate::attr::AttrType>::from_attr)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| c.error_at(at, "expected a list of numbers"))?;
        if shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) != Some(numbers.len()) {
            return Err(c.error_at(at, format!("{} numbers for {ty}", numbers.len())));
        }
        let tensor = Tensor::from_fn(ty.dtype, shape, |i| numbers[i])
            .map_err(|e| c.error_at(at, e.to_string()))?;
        payload = Some(Arc::new(tensor.to_bytes()));
    }
    if g.constants
        .insert(name.clone(), Constant { ty, data: payload })
        .is_some()
    {
        return Err(c.error_at(at, format!("data \"{name}\" is given twice")));
    }
    Ok(())
}
