//! `orders-that-vary FOLDER`: holds the recordings in a folder, which `record-again` made, against each other and against
//! those that are kept, and prints what came in more than one order: the data of the test `walk`.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a command that prints")]

use std::{collections::BTreeSet, env, error::Error};

use camino::Utf8PathBuf;
use freezeframe::fidelity::recording;
use freezeframe_sim::Release;
use freezeframe_tests::words::{goes, order, turns};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Utf8PathBuf::from(env::args().nth(1).ok_or("usage: orders-that-vary FOLDER")?);
    for release in Release::ALL {
        let kept = recording::read_all(&recording::own(), Some(release))?;
        let again = recording::read_all(&folder, Some(release))?;
        for one in &kept {
            let of_it = |name: &str| name.rsplit_once('-').is_some_and(|(name, _)| name == one.name);
            let all = again.iter().filter(|again| of_it(&again.name)).chain([one]);
            let goes = goes(one);
            let mut orders = vec![BTreeSet::new(); goes.len()];
            for recording in all {
                let turns = turns(recording);
                for (index, begin) in goes.iter().enumerate() {
                    let end = goes.get(index + 1).copied().unwrap_or(turns.len());
                    orders[index].insert(order(turns[*begin..end].iter().flatten().copied()));
                }
            }
            for (begin, orders) in goes.iter().zip(&orders).filter(|(_, orders)| orders.len() > 1) {
                println!(
                    "\n[[varied]]\nrelease = \"{release}\"\nrecording = \"{}\"\nfrom = {begin}",
                    one.name
                );
                println!("orders = [");
                orders.iter().for_each(|order| println!("    \"{order}\","));
                println!("]");
            }
        }
    }
    Ok(())
}
