//! Tokens of the text form.

use crate::error::ParseError;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A word: letters, digits, `_`, `.`, not starting with a digit.
    Word(String),
    /// `%` and a name.
    Value(String),
    /// An integer without sign.
    Int(i64),
    /// A floating-point number without sign.
    Float(f64),
    /// A quoted string.
    Str(String),
    /// `..=`
    RangeTo,
    /// One of `{ } ( ) [ ] , : = + - * ? $`, or `=>` as `>` after `=`.
    Punct(char),
    /// The end of the text.
    End,
}

/// A token and where it starts.
#[derive(Clone, Debug)]
pub struct Spanned {
    pub token: Token,
    pub line: usize,
    pub column: usize,
}

/// All the tokens of a text, `End` last.
pub fn lex(text: &str) -> Result<Vec<Spanned>, ParseError> {
    let mut out = Vec::new();
    let mut chars = Chars {
        rest: text,
        line: 1,
        column: 1,
    };
    loop {
        chars.take_while(char::is_whitespace);
        let (line, column) = (chars.line, chars.column);
        let fail = |reason: String| ParseError {
            line,
            column,
            reason,
        };
        let Some(c) = chars.peek() else {
            out.push(Spanned {
                token: Token::End,
                line,
                column,
            });
            return Ok(out);
        };
        let token = if chars.rest.starts_with("//") {
            chars.take_while(|c| c != '\n');
            continue;
        } else if chars.rest.starts_with("..=") {
            (0..3).for_each(|_| {
                chars.next();
            });
            Token::RangeTo
        } else if c.is_ascii_digit() {
            number(chars.take_number()).map_err(fail)?
        } else if let Some(least) = chars.least() {
            least
        } else if c.is_alphabetic() || c == '_' {
            Token::Word(chars.take_while(is_name).to_string())
        } else if c == '%' {
            chars.next();
            let name = chars.take_while(is_name);
            if name.is_empty() {
                return Err(fail("a value's name must follow `%`".into()));
            }
            Token::Value(name.to_string())
        } else if c == '"' {
            Token::Str(chars.string().map_err(fail)?)
        } else if "{}()[],:=+-*?$>".contains(c) {
            chars.next();
            Token::Punct(c)
        } else {
            return Err(fail(format!("unexpected character {c:?}")));
        };
        out.push(Spanned {
            token,
            line,
            column,
        });
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

fn number(text: &str) -> Result<Token, String> {
    if text.contains(['.', 'e', 'E']) {
        let x: f64 = text
            .parse()
            .map_err(|_| format!("{text} is not a number"))?;
        return Ok(Token::Float(x));
    }
    let n: i64 = text
        .parse()
        .map_err(|_| format!("{text} does not fit 64 bits"))?;
    Ok(Token::Int(n))
}

struct Chars<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
}

/// The least integer of 64 bits, whose digits alone do not fit.
const LEAST: &str = "-9223372036854775808";

impl<'a> Chars<'a> {
    /// Takes [`LEAST`], where it stands whole.
    fn least(&mut self) -> Option<Token> {
        let after = self.rest.strip_prefix(LEAST)?;
        let fraction = after.starts_with('.') && !after.starts_with("..");
        if fraction || after.starts_with(|c: char| c.is_ascii_digit() || "eE".contains(c)) {
            return None;
        }
        LEAST.chars().for_each(|_| {
            self.next();
        });
        Some(Token::Int(i64::MIN))
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let start = self.rest;
        while self.peek().is_some_and(&keep) {
            self.next();
        }
        &start[..start.len() - self.rest.len()]
    }

    /// Digits, with a fraction (but not the `..=` of a range) and an exponent.
    fn take_number(&mut self) -> &'a str {
        let start = self.rest;
        self.take_while(|c| c.is_ascii_digit());
        if self.rest.starts_with('.') && !self.rest.starts_with("..") {
            self.next();
            self.take_while(|c| c.is_ascii_digit());
        }
        let mut after = self.rest.chars();
        if matches!(after.next(), Some('e' | 'E')) {
            let next = after.next();
            let signed =
                matches!(next, Some('+' | '-')) && after.next().is_some_and(|c| c.is_ascii_digit());
            if signed || next.is_some_and(|c| c.is_ascii_digit()) {
                self.next();
                self.next();
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        &start[..start.len() - self.rest.len()]
    }

    fn string(&mut self) -> Result<String, String> {
        self.next();
        let mut out = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return Err("the string has no end".into()),
                Some('"') => return Ok(out),
                Some('\\') => match self.next() {
                    Some('n') => out.push('\n'),
                    Some(c @ ('"' | '\\')) => out.push(c),
                    Some('u') => {
                        let open = self.next() == Some('{');
                        let hex = self.take_while(|c| c.is_ascii_hexdigit());
                        let closed = self.next() == Some('}');
                        let c = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
                        out.push(c.filter(|_| open && closed).ok_or("a bad \\u{…}")?);
                    }
                    _ => return Err("an unknown escape in a string".into()),
                },
                Some(c) => out.push(c),
            }
        }
    }
}
