//! The stack machine of a pickle stream, for the few opcodes that `torch.save` writes for tensors. It builds plain data: no code is looked up, loaded or run.
//!
//! A stream can do this much: push numbers, texts, tuples, lists and dictionaries; name a global, of which [`Global`] has all there are; and call one, which
//! [`super::values`] answers for each of them. Any other opcode or global ends the reading with its name and offset.
//!
//! Everything that a stream makes it spends bytes on, and containers hold numbers of values instead of values: memory is linear in the stream's length, and nothing
//! here recurses.

use std::collections::BTreeMap;

use super::globals::Global;
use super::values::{Made, Maker, Node};

/// Bytes of the longest stream that is read. Descriptions of a weight take hundreds.
const MAX_STREAM: usize = 1 << 20;
/// The largest number that a stream may remember a value under.
const MAX_MEMO: u32 = 1 << 16;
/// The most calls, and storages that are named: each may copy a shape and a name.
const MAX_CALLS: usize = 256;
/// The protocols that are written in practice.
const PROTOCOLS: std::ops::RangeInclusive<u8> = 2..=5;

/// A value's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(usize);

/// All values that a stream has made.
#[derive(Default)]
pub(super) struct Values(Vec<Node>);

impl Values {
    /// The value.
    pub fn get(&self, id: Id) -> &Node {
        // Numbers are only given out here.
        self.0.get(id.0).unwrap_or(&Node::None)
    }

    fn get_mut(&mut self, id: Id) -> Option<&mut Node> {
        self.0.get_mut(id.0)
    }

    /// Adds one.
    pub fn add(&mut self, node: Node) -> Id {
        self.0.push(node);
        Id(self.0.len() - 1)
    }
}

/// Reads a stream: all values and the number of the last one.
///
/// # Errors
/// What is wrong, and at which byte.
pub(super) fn read(stream: &[u8], maker: &dyn Maker) -> Result<(Values, Id), String> {
    if stream.len() > MAX_STREAM {
        return Err(format!(
            "its pickle stream has {} bytes; streams that describe tensors have fewer than {MAX_STREAM}",
            stream.len()
        ));
    }
    let mut machine = Machine {
        stream,
        at: 0,
        values: Values::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        calls: 0,
        maker,
    };
    loop {
        let offset = machine.at;
        let end = machine.step();
        match end.map_err(|reason| format!("at byte {offset} of its pickle stream: {reason}"))? {
            None => {}
            Some(id) => return Ok((machine.values, id)),
        }
    }
}

struct Machine<'s> {
    stream: &'s [u8],
    at: usize,
    values: Values,
    stack: Vec<Id>,
    /// Heights of the stack where lists of arguments begin.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
    calls: usize,
    maker: &'s dyn Maker,
}

impl<'s> Machine<'s> {
    fn take(&mut self, count: usize) -> Result<&'s [u8], String> {
        let end = self.at.checked_add(count);
        let bytes = end.and_then(|end| self.stream.get(self.at..end));
        let bytes = bytes.ok_or("it ends in the middle of an instruction")?;
        self.at += count;
        Ok(bytes)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "a number is cut".to_owned())
    }

    fn text(&mut self, count: usize) -> Result<String, String> {
        let text = std::str::from_utf8(self.take(count)?);
        Ok(text.map_err(|_| "a text is not UTF-8")?.to_owned())
    }

    fn line(&mut self) -> Result<&'s str, String> {
        let rest = self.stream.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = self.take(end.ok_or("a name has no end")?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| "a name is not UTF-8".to_owned())
    }

    fn push(&mut self, node: Node) {
        let id = self.values.add(node);
        self.stack.push(id);
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, String> {
        if self.stack.len() <= self.floor() {
            return Err("it takes more from the stack than there is".to_owned());
        }
        self.stack.pop().ok_or_else(|| "an empty stack".to_owned())
    }

    fn top(&self) -> Result<Id, String> {
        let top = self
            .stack
            .last()
            .filter(|_| self.stack.len() > self.floor());
        top.copied()
            .ok_or_else(|| "nothing is on the stack".to_owned())
    }

    /// The values since the last mark.
    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let start = self.marks.pop().ok_or("no mark is on the stack")?;
        Ok(self.stack.split_off(start))
    }

    fn tuple(&mut self, count: usize) -> Result<(), String> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Node::Tuple(items));
        Ok(())
    }

    fn remember(&mut self, index: u32) -> Result<(), String> {
        if index > MAX_MEMO {
            return Err(format!(
                "a value is remembered as number {index}, of {MAX_MEMO} at most"
            ));
        }
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), String> {
        let id = self.memo.get(&index);
        let id = id.ok_or_else(|| format!("nothing is remembered as number {index}"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn count(&mut self) -> Result<(), String> {
        self.calls += 1;
        if self.calls > MAX_CALLS {
            return Err(format!("more than {MAX_CALLS} calls for one weight"));
        }
        Ok(())
    }

    fn append(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        match self.values.get_mut(top) {
            Some(Node::Tuple(list)) => {
                list.extend(items);
                Ok(())
            }
            _ => Err("items are appended to something that is no list".to_owned()),
        }
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let (pairs, rest) = items.as_chunks::<2>();
        let top = self.top()?;
        match self.values.get_mut(top) {
            Some(Node::Dict(dict)) if rest.is_empty() => {
                dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            _ => Err("items are put into something that is no dictionary".to_owned()),
        }
    }

    /// One instruction; the result, if it was the last.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let [opcode] = self.number()?;
        match opcode {
            // PROTO
            0x80 => {
                let [protocol] = self.number()?;
                if !PROTOCOLS.contains(&protocol) {
                    return Err(format!(
                        "protocol {protocol} is none that torch.save writes"
                    ));
                }
            }
            // FRAME: only how much follows.
            0x95 => {
                self.number::<8>()?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Node::None),
            // NEWTRUE, NEWFALSE: no attribute that is asked for is one.
            0x88 | 0x89 => self.push(Node::Other),
            // BININT, BININT1, BININT2
            b'J' => {
                let n = i32::from_le_bytes(self.number()?);
                self.push(Node::Int(n.into()));
            }
            b'K' => {
                let [n] = self.number()?;
                self.push(Node::Int(n.into()));
            }
            b'M' => {
                let n = u16::from_le_bytes(self.number()?);
                self.push(Node::Int(n.into()));
            }
            // LONG1
            0x8a => {
                let [count] = self.number()?;
                let n = long(self.take(count.into())?)?;
                self.push(Node::Int(n));
            }
            // BINFLOAT: a float says nothing about a tensor.
            b'G' => {
                self.number::<8>()?;
                self.push(Node::Other);
            }
            // BINUNICODE, SHORT_BINUNICODE
            b'X' => {
                let count = u32::from_le_bytes(self.number()?);
                let text = self.text(count as usize)?;
                self.push(Node::Text(text));
            }
            0x8c => {
                let [count] = self.number()?;
                let text = self.text(count.into())?;
                self.push(Node::Text(text));
            }
            // EMPTY_TUPLE, TUPLE1 to TUPLE3, TUPLE
            b')' => self.push(Node::Tuple(Vec::new())),
            0x85..=0x87 => self.tuple(usize::from(opcode - 0x84))?,
            b't' => {
                let items = self.marked()?;
                self.push(Node::Tuple(items));
            }
            // EMPTY_LIST, APPEND, APPENDS
            b']' => self.push(Node::Tuple(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.marked()?;
                self.append(&items)?;
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => self.push(Node::Dict(Vec::new())),
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.marked()?;
                self.set_items(&items)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global(Global::named(module, name)?));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Node::Text(module), Node::Text(name)) =
                    (self.values.get(module), self.values.get(name))
                else {
                    return Err("a global's name is no text".to_owned());
                };
                let global = Global::named(module, name)?;
                self.push(Node::Global(global));
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => {
                let [index] = self.number()?;
                self.remember(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.number()?);
                self.remember(index)?;
            }
            0x94 => self.remember(u32::try_from(self.memo.len()).unwrap_or(u32::MAX))?,
            // BINGET, LONG_BINGET
            b'h' => {
                let [index] = self.number()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.number()?);
                self.recall(index)?;
            }
            // BINPERSID
            b'Q' => {
                self.count()?;
                let id = self.pop()?;
                let node = self.maker.storage(&self.values, id)?;
                self.push(node);
            }
            // REDUCE
            b'R' => {
                self.count()?;
                let (args, callee) = (self.pop()?, self.pop()?);
                let (Node::Global(global), Node::Tuple(args)) =
                    (self.values.get(callee), self.values.get(args))
                else {
                    return Err("something is called that is no global".to_owned());
                };
                match self.maker.call(&self.values, *global, args)? {
                    Made::New(node) => self.push(node),
                    Made::Same(id) => self.stack.push(id),
                }
            }
            b'.' => return self.pop().map(Some),
            other => {
                return Err(format!(
                    "opcode {other:#04x} is none of those that are read"
                ));
            }
        }
        Ok(None)
    }
}

/// A number of up to eight bytes, in two's complement.
fn long(bytes: &[u8]) -> Result<i64, String> {
    if bytes.len() > 8 {
        return Err(format!("an integer of {} bytes", bytes.len()));
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    for (to, byte) in all.iter_mut().zip(bytes) {
        *to = *byte;
    }
    Ok(i64::from_le_bytes(all))
}
