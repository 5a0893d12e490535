//! A reader of Python pickles that never runs anything.
//!
//! A pickle is a program for a small stack machine. Its dangerous instructions call Python functions; here a call is
//! only written down as an [`Item::Object`] with the function's name and arguments. All compound values live in one
//! arena and are named by index, so neither reading nor dropping recurses, whatever the file says. Reference: CPython's
//! `Lib/pickletools.py`.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, Result, bail};

/// A value on the machine's stack. Compound ones are an index for [`Pickle::item`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(Rc<str>),
    /// Bytes; their content is of no use here.
    Bytes,
    /// A Python function or class by module and name.
    Global(Rc<str>, Rc<str>),
    Item(usize),
}

/// A compound value.
#[derive(Debug)]
pub(super) enum Item {
    Tuple(Vec<Value>),
    /// A list or a set.
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// What calling `class` with `arguments` would have given.
    Object {
        class: Value,
        arguments: Value,
        state: Option<Value>,
    },
    /// An object outside of the pickle, by its identifier.
    Persistent(Value),
}

/// A pickle that has been read.
#[derive(Debug)]
pub(super) struct Pickle {
    items: Vec<Item>,
    pub(super) root: Value,
    /// Bytes of the input that belong to it.
    pub(super) length: usize,
}

impl Pickle {
    /// The compound value behind `value`, if it is one.
    pub(super) fn item(&self, value: &Value) -> Option<&Item> {
        match value {
            Value::Item(index) => self.items.get(*index),
            _ => None,
        }
    }

    /// All compound values, in the order of their creation.
    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter()
    }

    /// The parts of a tuple.
    pub(super) fn tuple(&self, value: &Value) -> Option<&[Value]> {
        match self.item(value)? {
            Item::Tuple(parts) => Some(parts),
            _ => None,
        }
    }

    /// The pairs of a dictionary.
    pub(super) fn dict(&self, value: &Value) -> Option<&[(Value, Value)]> {
        match self.item(value)? {
            Item::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }
}

/// Reads the pickle at the beginning of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle> {
    let mut machine = Machine { input: bytes, ..Machine::default() };
    loop {
        let at = machine.position;
        if machine.step().with_context(|| format!("in the pickle at byte {at}"))? {
            break;
        }
    }
    let root = machine.pop()?;
    Ok(Pickle { items: machine.items, root, length: machine.position })
}

#[derive(Default)]
struct Machine<'a> {
    input: &'a [u8],
    position: usize,
    stack: Vec<Value>,
    /// Heights of the stack at open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    items: Vec<Item>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.position.checked_add(n).context("it is damaged")?;
        let bytes = self.input.get(self.position..end).context("it ends too early")?;
        self.position = end;
        Ok(bytes)
    }

    /// An unsigned little-endian number of up to 8 bytes.
    fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, &b| (n << 8) | u64::from(b)))
    }

    fn sized(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let n = usize::try_from(self.number(bytes)?)?;
        self.take(n)
    }

    fn text(&mut self, bytes: usize) -> Result<Value> {
        let raw = self.sized(bytes)?;
        Ok(Value::Text(std::str::from_utf8(raw).context("a text is not UTF-8")?.into()))
    }

    fn line(&mut self) -> Result<Rc<str>> {
        let rest = self.input.get(self.position..).unwrap_or_default();
        let n = rest.iter().position(|&b| b == b'\n').context("it ends too early")?;
        let raw = self.take(n)?;
        self.take(1)?;
        Ok(std::str::from_utf8(raw).context("a name is not UTF-8")?.into())
    }

    /// A signed little-endian number of any length; beyond 64 bits it is kept as 0, which no tensor needs.
    fn long(raw: &[u8]) -> Value {
        let Some(&last) = raw.last().filter(|_| raw.len() <= 8) else { return Value::Int(0) };
        let start = if last & 0x80 == 0 { 0 } else { -1 };
        Value::Int(raw.iter().rev().fold(start, |n, &b| (n << 8) | i64::from(b)))
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn push_item(&mut self, item: Item) {
        self.items.push(item);
        self.stack.push(Value::Item(self.items.len() - 1));
    }

    fn pop(&mut self) -> Result<Value> {
        if self.marks.last().is_some_and(|&m| m >= self.stack.len()) {
            bail!("it takes more than there is");
        }
        self.stack.pop().context("it takes more than there is")
    }

    fn pop_tuple(&mut self, n: usize) -> Result<()> {
        let mut parts = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        parts.reverse();
        self.push_item(Item::Tuple(parts));
        Ok(())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().context("a mark is missing")?;
        if mark > self.stack.len() {
            bail!("a mark is missing");
        }
        Ok(self.stack.split_off(mark))
    }

    fn pairs(values: Vec<Value>) -> Result<Vec<(Value, Value)>> {
        let mut pairs = Vec::with_capacity(values.len() / 2);
        let mut values = values.into_iter();
        while let Some(key) = values.next() {
            pairs.push((key, values.next().context("a dictionary has a key without a value")?));
        }
        Ok(pairs)
    }

    fn top_item(&mut self) -> Result<&mut Item> {
        match self.stack.last() {
            Some(Value::Item(index)) => self.items.get_mut(*index).context("it is damaged"),
            _ => bail!("it adds to something that holds nothing"),
        }
    }

    fn append(&mut self, values: Vec<Value>) -> Result<()> {
        match self.top_item()? {
            Item::List(list) => list.extend(values),
            // A subclass of list: its content does not matter here.
            Item::Object { .. } => {}
            _ => bail!("it appends to something that is no list"),
        }
        Ok(())
    }

    fn set(&mut self, pairs: Vec<(Value, Value)>) -> Result<()> {
        match self.top_item()? {
            Item::Dict(dict) => dict.extend(pairs),
            Item::Object { .. } => {}
            _ => bail!("it adds keys to something that is no dictionary"),
        }
        Ok(())
    }

    /// A call, written down. Dictionaries that torch uses are made, as they only hold things.
    fn call(&mut self, class: Value, arguments: Value) {
        let item = match &class {
            Value::Global(module, name) if is_dict(module, name) => Item::Dict(Vec::new()),
            _ => Item::Object { class, arguments, state: None },
        };
        self.push_item(item);
    }

    fn build(&mut self) -> Result<()> {
        let new = self.pop()?;
        // Attributes of a dictionary (torch's `_metadata`) are not needed.
        if let Item::Object { state, .. } = self.top_item()? {
            *state = Some(new);
        }
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Result<()> {
        let top = self.stack.last().context("it remembers what is not there")?.clone();
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<()> {
        let value = self.memo.get(&key).context("it recalls what was never there")?.clone();
        self.push(value);
        Ok(())
    }

    /// One instruction; whether it was the last.
    fn step(&mut self) -> Result<bool> {
        let code = self.number(1)? as u8;
        match code {
            b'.' => return Ok(true),
            0x80 => drop(self.take(1)?), // PROTO
            0x95 => drop(self.take(8)?), // FRAME
            b'q' => self.number(1).and_then(|k| self.remember(k))?,
            b'r' => self.number(4).and_then(|k| self.remember(k))?,
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => self.number(1).and_then(|k| self.recall(k))?,
            b'j' => self.number(4).and_then(|k| self.recall(k))?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.stack.last().context("it doubles what is not there")?.clone();
                self.push(top);
            }
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => self.scalar(code)?,
            b'X' | b'T' => self.text_or_bytes(code, 4)?,
            b'U' | 0x8c => self.text_or_bytes(code, 1)?,
            0x8d => self.text_or_bytes(code, 8)?,
            b'B' => self.text_or_bytes(code, 4)?,
            b'C' => self.text_or_bytes(code, 1)?,
            0x8e => self.text_or_bytes(code, 8)?,
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | 0x8f | 0x91 | b'}' | b'd' => self.container(code)?,
            b'a' => {
                let value = self.pop()?;
                self.append(vec![value])?;
            }
            b'e' | 0x90 => {
                let values = self.pop_to_mark()?;
                self.append(values)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let values = self.pop_to_mark()?;
                self.set(Self::pairs(values)?)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name));
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.push(Value::Global(module, name)),
                _ => bail!("the name of a class is no text"),
            },
            b'R' | 0x81 => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.call(class, arguments);
            }
            0x92 => {
                let (_keywords, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(class, arguments);
            }
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                self.push_item(Item::Persistent(id));
            }
            other => bail!("instruction 0x{other:02x} is not one that torch writes"),
        }
        Ok(false)
    }

    fn scalar(&mut self, code: u8) -> Result<()> {
        let value = match code {
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Self::long(self.take(4)?),
            b'K' => Value::Int(i64::try_from(self.number(1)?)?),
            b'M' => Value::Int(i64::try_from(self.number(2)?)?),
            0x8a => Self::long(self.sized(1)?),
            0x8b => Self::long(self.sized(4)?),
            b'G' => {
                self.take(8)?;
                Value::Float
            }
            _ => Value::None,
        };
        self.push(value);
        Ok(())
    }

    fn text_or_bytes(&mut self, code: u8, length: usize) -> Result<()> {
        let value = match code {
            b'X' | 0x8c | 0x8d => self.text(length)?,
            // Python 2 wrote names as byte strings.
            b'T' | b'U' => {
                let raw = self.sized(length)?;
                std::str::from_utf8(raw).map_or(Value::Bytes, |s| Value::Text(s.into()))
            }
            _ => {
                self.sized(length)?;
                Value::Bytes
            }
        };
        self.push(value);
        Ok(())
    }

    fn container(&mut self, code: u8) -> Result<()> {
        match code {
            b')' => self.push_item(Item::Tuple(Vec::new())),
            b't' => {
                let parts = self.pop_to_mark()?;
                self.push_item(Item::Tuple(parts));
            }
            0x85 => self.pop_tuple(1)?,
            0x86 => self.pop_tuple(2)?,
            0x87 => self.pop_tuple(3)?,
            b']' | 0x8f => self.push_item(Item::List(Vec::new())),
            b'l' | 0x91 => {
                let parts = self.pop_to_mark()?;
                self.push_item(Item::List(parts));
            }
            b'}' => self.push_item(Item::Dict(Vec::new())),
            _ => {
                let values = self.pop_to_mark()?;
                let pairs = Self::pairs(values)?;
                self.push_item(Item::Dict(pairs));
            }
        }
        Ok(())
    }
}

fn is_dict(module: &str, name: &str) -> bool {
    matches!((module, name), ("collections", "OrderedDict" | "defaultdict") | ("builtins" | "__builtin__", "dict"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_in_a_pickle_is_written_down_and_not_made() {
        // What `pickle.dumps` gives for an object whose __reduce__ is (os.system, ("exit 1",)).
        let pickle = read(b"\x80\x02cposix\nsystem\nX\x06\x00\x00\x00exit 1\x85R.").expect("a pickle");
        let Some(Item::Object { class, arguments, .. }) = pickle.item(&pickle.root) else { panic!("{pickle:?}") };
        assert_eq!(*class, Value::Global("posix".into(), "system".into()));
        assert_eq!(pickle.tuple(arguments), Some(&[Value::Text("exit 1".into())][..]));
    }

    #[test]
    fn a_list_that_is_remembered_while_empty_is_the_same_list_later() {
        // x = []; (x, x) with x filled after it was memoised.
        let pickle = read(b"\x80\x02]q\x00K\x07ah\x00\x86.").expect("a pickle");
        let parts = pickle.tuple(&pickle.root).expect("a tuple");
        assert_eq!(parts.first(), parts.last());
    }

    #[test]
    fn numbers_have_their_sign_and_size() {
        for (bytes, expected) in [
            (&b"\x80\x02J\xfe\xff\xff\xff."[..], -2),
            (b"\x80\x02\x8a\x01\x80.", -128),
            (b"\x80\x02\x8a\x02\xff\x00.", 255),
            (b"\x80\x02M\x00\x80.", 0x8000),
        ] {
            assert_eq!(read(bytes).expect("a pickle").root, Value::Int(expected));
        }
    }

    #[test]
    fn damage_is_an_error_with_its_place_and_never_a_panic() {
        let good = b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00bK\x02u.";
        assert!(read(good).is_ok());
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        }
        for i in 0..good.len() {
            for value in 0..=255 {
                let mut bad = good.to_vec();
                bad[i] = value;
                let _ = read(&bad); // an error or another value, but no panic
            }
        }
        let deep = [&b"\x80\x02N"[..], &vec![0x85; 1_000_000], b"."].concat();
        assert!(read(&deep).is_ok(), "nesting is not recursion");
    }
}
