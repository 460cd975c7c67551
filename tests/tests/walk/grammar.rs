//! Patterns of orders: what may come, in one line.
//!
//! ```text
//! a b        a, then b                (a | b)    one of the two
//! (a b){0,2} never, once or twice     (a b & c)  both, in whatever order, each in its own: c a b, a c b, a b c
//! a?         or not
//! ```
//! A pattern stands for a finite set of orders, and all of them are listed: a walk has to come through each.

use std::collections::BTreeSet;

/// Words in an order.
pub(crate) type Order = Vec<String>;

/// More orders than this are no list any more.
const MOST: usize = 5_000;

/// All orders that a pattern stands for.
///
/// # Errors
/// What is wrong with the pattern.
pub(crate) fn expand(pattern: &str) -> Result<BTreeSet<Order>, String> {
    let mut parser = Parser { tokens: tokens(pattern), at: 0 };
    let orders = parser.sequence()?;
    match parser.peek() {
        Some(token) => Err(format!("`{token}` without its beginning")),
        None if orders.len() > MOST => Err(format!("{} orders", orders.len())),
        None => Ok(orders),
    }
}

fn tokens(pattern: &str) -> Vec<String> {
    let mut tokens = vec![String::new()];
    for letter in pattern.chars() {
        match letter {
            ' ' | '\n' => tokens.push(String::new()),
            '(' | ')' | '|' | '&' | '{' | '}' | ',' | '?' => {
                tokens.extend([letter.to_string(), String::new()]);
            }
            _ => tokens.last_mut().expect("there is always one").push(letter),
        }
    }
    tokens.retain(|token| !token.is_empty());
    tokens
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.at).map(String::as_str)
    }

    fn next(&mut self) -> Option<String> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn take(&mut self, wanted: &str) -> bool {
        let there = self.peek() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, wanted: &str) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { Err(format!("`{wanted}` is missing")) }
    }

    fn sequence(&mut self) -> Result<BTreeSet<Order>, String> {
        let mut orders = BTreeSet::from([Order::new()]);
        while let Some(token) = self.peek()
            && !")|&".contains(token)
        {
            let item = if self.take("(") { self.group()? } else { self.word()? };
            let (least, most) = self.repeats()?;
            let item = (least..=most).flat_map(|times| repeated(&item, times)).collect();
            orders = joined(&orders, &item);
        }
        Ok(orders)
    }

    fn word(&mut self) -> Result<BTreeSet<Order>, String> {
        match self.next() {
            Some(token) if !"{},?".contains(&token) => Ok(BTreeSet::from([vec![token]])),
            token => Err(format!("{token:?} is no word")),
        }
    }

    fn group(&mut self) -> Result<BTreeSet<Order>, String> {
        let mut orders = self.sequence()?;
        loop {
            if self.take("|") {
                orders.extend(self.sequence()?);
            } else if self.take("&") {
                let beside = self.sequence()?;
                orders =
                    orders.iter().flat_map(|one| beside.iter().flat_map(|two| mixed(one, two))).collect();
            } else {
                self.expect(")")?;
                return Ok(orders);
            }
        }
    }

    fn repeats(&mut self) -> Result<(usize, usize), String> {
        if self.take("?") {
            return Ok((0, 1));
        }
        if !self.take("{") {
            return Ok((1, 1));
        }
        let least = self.number()?;
        self.expect(",")?;
        let most = self.number()?;
        self.expect("}")?;
        Ok((least, most))
    }

    fn number(&mut self) -> Result<usize, String> {
        self.next().and_then(|token| token.parse().ok()).ok_or_else(|| "a number is missing".to_owned())
    }
}

fn repeated(item: &BTreeSet<Order>, times: usize) -> BTreeSet<Order> {
    (0..times).fold(BTreeSet::from([Order::new()]), |orders, _| joined(&orders, item))
}

fn joined(first: &BTreeSet<Order>, then: &BTreeSet<Order>) -> BTreeSet<Order> {
    first.iter().flat_map(|first| then.iter().map(move |then| [&first[..], then].concat())).collect()
}

/// Every way in which two orders may mix, each keeping its own.
fn mixed(one: &[String], two: &[String]) -> BTreeSet<Order> {
    let (Some((first, ones)), Some((second, twos))) = (one.split_first(), two.split_first()) else {
        return BTreeSet::from([[one, two].concat()]);
    };
    let after = |word: &String, rest: BTreeSet<Order>| {
        let word = word.clone();
        rest.into_iter().map(move |rest| [vec![word.clone()], rest].concat()).collect::<Vec<_>>()
    };
    let mut orders = BTreeSet::from_iter(after(first, mixed(ones, two)));
    orders.extend(after(second, mixed(one, twos)));
    orders
}

#[test]
fn a_pattern_stands_for_all_its_orders() {
    let all = |pattern: &str| -> Vec<String> {
        expand(pattern).unwrap().iter().map(|order| order.join(" ")).collect()
    };
    assert_eq!(all("a b"), ["a b"]);
    assert_eq!(all("a (b | c d)"), ["a b", "a c d"]);
    assert_eq!(all("(a b){0,2} c"), ["a b a b c", "a b c", "c"]);
    assert_eq!(all("a (b c & d)?"), ["a", "a b c d", "a b d c", "a d b c"]);
    assert_eq!(all(""), [""]);
}

#[test]
fn what_is_no_pattern_is_refused() {
    for pattern in ["(a", "a)", "a{1}", "?"] {
        assert!(expand(pattern).is_err(), "{pattern}");
    }
}
