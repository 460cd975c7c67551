//! Random commands for `qemu-img`, over a handful of images.

use freezeframe_sim::Oracle;

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `qemu-img` with these arguments.
    Run(Vec<String>),
    /// This image is written from this block on, so many blocks, with this byte.
    Write(String, u64, u64, u8),
}

const IMAGES: [&str; 5] = ["a", "b", "c", "d", "r"];
const NAMES: [&str; 4] = ["s1", "s2", "1", "with space"];
const SIZES: [&str; 4] = ["16M", "1M", "1.5M", "64k"];

/// Makes commands, all decided by the oracle.
#[derive(Debug)]
pub struct Grammar {
    oracle: Oracle,
}

impl Grammar {
    /// The commands of a seed.
    pub fn new(seed: u64) -> Self {
        Self { oracle: Oracle::seeded(seed) }
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.oracle.choose("word", of.len())]
    }

    /// An image by its name, from the root or not.
    fn image(&mut self) -> String {
        let name = self.one(&IMAGES);
        if self.oracle.choose("from-the-root", 2) == 1 { format!("$DIR/{name}") } else { name.to_owned() }
    }

    /// The next command.
    pub fn step(&mut self) -> Step {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let image = self.image();
        let run = match self.oracle.choose("command", 16) {
            0..=2 => {
                let image = self.one(&IMAGES).to_owned();
                let first = self.oracle.choose("block", 20) as u64;
                let count = 1 + self.oracle.choose("blocks", 6) as u64;
                return Step::Write(image, first, count, 1 + self.oracle.choose("byte", 200) as u8);
            }
            3 => [words(&["create", "-f", "qcow2", &image]), words(&[self.one(&SIZES)])].concat(),
            4 => words(&["create", "-q", "-f", "raw", "r", self.one(&SIZES)]),
            5 | 6 => {
                let (base, format) = (self.image(), self.one(&["qcow2", "qcow2", "qcow2", "raw"]));
                let mut all = words(&["create", "-f", "qcow2", "-F", format, "-b", &base, &image]);
                all.extend((self.oracle.choose("size", 3) == 0).then(|| self.one(&SIZES).to_owned()));
                all
            }
            7 => words(&["create", "-f", "qcow2", "-b", &self.image(), &image]),
            8 | 9 => words(&["snapshot", "-c", self.one(&NAMES), &image]),
            10 => words(&["snapshot", self.one(&["-a", "-d"]), self.one(&NAMES), &image]),
            11 => {
                let name = self.one(&IMAGES);
                let described = format!(
                    r#"json:{{"driver":"qcow2","backing":null,"file":{{"driver":"file","filename":"$DIR/{name}"}}}}"#
                );
                words(&["snapshot", self.one(&["-a", "-d", "-c"]), self.one(&NAMES), &described])
            }
            12 => {
                [words(&["commit", "-f", "qcow2"]), words(&[self.one(&["-q", "-d", "-q"]), &image])].concat()
            }
            13 => {
                let base = self.image();
                let mut all = words(&["rebase", "-u", "-f", "qcow2"]);
                if self.oracle.choose("format", 4) > 0 {
                    all.extend(words(&["-F", "qcow2"]));
                }
                [all, words(&["-b", if self.oracle.choose("none", 5) == 0 { "" } else { &base }, &image])]
                    .concat()
            }
            14 => words(&["snapshot", "-l", &image]),
            _ => words(&["commit", "-f", "qcow2", "-b", &self.image(), &image]),
        };
        Step::Run(run)
    }

    /// What there is at first.
    pub fn first() -> [Step; 4] {
        let run = |words: &str| Step::Run(words.split(' ').map(str::to_owned).collect());
        [
            run("create -f qcow2 a 16M"),
            run("create -f qcow2 -F qcow2 -b $DIR/a b"),
            run("create -f qcow2 -F qcow2 -b b c"),
            run("create -f raw r 1M"),
        ]
    }

    /// What shows all of an image.
    pub fn questions(image: &str) -> [Vec<String>; 4] {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        [
            words(&["info", "--output=json", image]),
            words(&["info", "--output=json", "--backing-chain", image]),
            words(&["check", "--output=json", image]),
            words(&["snapshot", "-l", image]),
        ]
    }

    /// All images that there can be.
    pub fn images() -> [&'static str; 5] {
        IMAGES
    }
}
