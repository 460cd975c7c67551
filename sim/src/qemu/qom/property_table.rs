//! In which order the properties of an object are told: that of `GHashTable`, in which QEMU keeps them.
//!
//! A table grows in powers of two. Where a name goes depends on its hash, which `GLib` takes modulo a prime a little below
//! the size; who finds the place taken goes on by one, two, three places. Only what is added matters here: that places
//! of properties which are gone are used again is not modelled.

/// The prime for a table of 2^n places, by n.
const MODULI: [u32; 12] = [1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039];

/// The smallest table has 2^3 places.
const SMALLEST: usize = 3;

/// Names in their places.
pub(super) struct PropertyTable<'a> {
    places: Vec<Option<&'a str>>,
    count: usize,
}

impl<'a> PropertyTable<'a> {
    /// A table of names that were added one after the other.
    pub(super) fn of(names: impl Iterator<Item = &'a str>) -> Self {
        let mut table = Self { places: vec![None; 1 << SMALLEST], count: 0 };
        for name in names {
            let free = table.place(name, |table, place| table.places[place].is_none());
            table.places[free] = Some(name);
            table.count += 1;
            if table.places.len() <= table.count + table.count / 16 {
                table.grow();
            }
        }
        table
    }

    /// The names, the one in the last place first: so QEMU lists them.
    pub(super) fn last_first(&self) -> impl Iterator<Item = &'a str> {
        self.places.iter().rev().flatten().copied()
    }

    /// The first place on a name's way that may be taken.
    fn place(&self, name: &str, may: impl Fn(&Self, usize) -> bool) -> usize {
        let size = self.places.len();
        let prime = MODULI[size.trailing_zeros() as usize];
        let mut place = (hash(name).wrapping_mul(11) % prime) as usize;
        let mut step = 0;
        while !may(self, place) {
            step += 1;
            place = (place + step) % size;
        }
        place
    }

    /// Makes room for a third more names, and moves each to its new place: who stands there is moved next.
    fn grow(&mut self) {
        let before = self.places.len();
        let wanted = self.count * 4 / 3;
        self.places.resize((wanted + 1).next_power_of_two().max(before), None);
        let mut moved = vec![false; self.places.len()];
        for at in 0..before {
            let mut evicted = if moved[at] { None } else { self.places[at].take() };
            while let Some(name) = evicted {
                let place = self.place(name, |_, place| !moved[place]);
                moved[place] = true;
                evicted = self.places[place].replace(name);
            }
        }
    }
}

/// `GLib`'s hash of a text.
fn hash(text: &str) -> u32 {
    text.bytes().fold(5381, |hash, byte| hash.wrapping_mul(33).wrapping_add(byte.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(disks: usize) -> Vec<String> {
        let disks = (0..disks).map(|disk| format!("vd{disk}"));
        let names: Vec<_> = disks.chain(["vser0".to_owned(), "port0".to_owned()]).collect();
        PropertyTable::of(names.iter().map(String::as_str)).last_first().map(str::to_owned).collect()
    }

    #[test]
    fn the_order_is_that_of_the_real_ones() {
        assert_eq!(listed(2), ["port0", "vser0", "vd1", "vd0"]);
    }

    #[test]
    fn a_table_that_has_grown_is_in_the_order_of_the_real_ones() {
        let nine = "vd8 vd2 vd3 vser0 vd4 port0 vd5 vd6 vd0 vd7 vd1";
        assert_eq!(listed(9).join(" "), nine);
        let twenty = "port0 vd16 vd1 vd13 vd10 vd9 vd6 vd18 vd3 vd15 vd0 vd12 vser0 vd8 vd5 vd17 vd2 vd14 vd11 vd7 vd19 vd4";
        assert_eq!(listed(20).join(" "), twenty);
    }
}
