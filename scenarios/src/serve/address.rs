//! Where a machine listens: `unix:PATH` or `tcp:HOST:PORT`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use camino::Utf8PathBuf;

/// Where a machine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket in the file system.
    Unix(Utf8PathBuf),
    /// TCP; port 0 lets the system choose.
    Tcp(SocketAddr),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// Neither `unix:` nor `tcp:`.
    #[error("it begins neither with `unix:` nor with `tcp:`")]
    Kind,
    /// Nothing behind `unix:`.
    #[error("there is no path behind `unix:`")]
    NoPath,
    /// Behind `tcp:` stands no IP address, or `localhost`, with a port.
    #[error("behind `tcp:` belong an IP address, or `localhost`, and a port: `tcp:127.0.0.1:4444`")]
    NoPort,
    /// Several machines want the same port.
    #[error("several machines cannot share a port; port 0 gives each its own")]
    SharedPort,
    /// Several machines want the same file.
    #[error("several machines need a path each: write `{{n}}` where the machine's number belongs")]
    SharedPath,
}

impl Address {
    /// Whether only programs of this host can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp(address) => address.ip().is_loopback(),
        }
    }

    /// The address of one of `count` machines: `{n}` in a path is its number, and in a folder that is there the
    /// socket is `<n>.sock`.
    ///
    /// # Errors
    /// [`BadAddress::SharedPort`], [`BadAddress::SharedPath`].
    pub fn of_machine(&self, number: usize, count: usize) -> Result<Self, BadAddress> {
        match self {
            Address::Tcp(address) if count > 1 && address.port() != 0 => Err(BadAddress::SharedPort),
            Address::Tcp(_) => Ok(self.clone()),
            Address::Unix(path) if path.is_dir() => Ok(Address::Unix(path.join(format!("{number}.sock")))),
            Address::Unix(path) => numbered(path, number, count).map(Address::Unix),
        }
    }
}

/// A path of one of `count` machines: `{n}` in it is the machine's number.
///
/// # Errors
/// [`BadAddress::SharedPath`].
pub fn numbered(path: &Utf8PathBuf, number: usize, count: usize) -> Result<Utf8PathBuf, BadAddress> {
    if count > 1 && !path.as_str().contains("{n}") {
        return Err(BadAddress::SharedPath);
    }
    Ok(path.as_str().replace("{n}", &number.to_string()).into())
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(BadAddress::NoPath) } else { Ok(Address::Unix(path.into())) };
        }
        let tcp = text.strip_prefix("tcp:").ok_or(BadAddress::Kind)?;
        if let Some(port) = tcp.strip_prefix("localhost:") {
            let port = port.parse().map_err(|_| BadAddress::NoPort)?;
            return Ok(Address::Tcp((IpAddr::from(Ipv4Addr::LOCALHOST), port).into()));
        }
        tcp.parse().map(Address::Tcp).map_err(|_| BadAddress::NoPort)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{path}"),
            Address::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_reads_as_it_is_written() {
        for text in ["unix:/run/a.sock", "tcp:127.0.0.1:4444", "tcp:[::1]:0"] {
            assert_eq!(address(text).to_string(), text);
        }
        assert_eq!(address("tcp:localhost:1"), address("tcp:127.0.0.1:1"));
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, why) in [
            ("/run/a.sock", BadAddress::Kind),
            ("unix:", BadAddress::NoPath),
            ("tcp:4444", BadAddress::NoPort),
            ("tcp:example.org:4444", BadAddress::NoPort),
        ] {
            assert_eq!(text.parse::<Address>(), Err(why), "{text}");
        }
    }

    #[test]
    fn only_loopback_and_files_are_local() {
        assert!(address("unix:a").is_local());
        assert!(address("tcp:127.0.0.1:0").is_local());
        assert!(!address("tcp:0.0.0.0:0").is_local());
    }

    #[test]
    fn several_machines_have_an_address_each_or_none() {
        let many = address("unix:/run/{n}.sock");
        assert_eq!(many.of_machine(7, 10), Ok(address("unix:/run/7.sock")));
        assert_eq!(address("unix:/run/a.sock").of_machine(0, 2), Err(BadAddress::SharedPath));
        assert_eq!(address("tcp:127.0.0.1:1").of_machine(0, 2), Err(BadAddress::SharedPort));
        assert_eq!(address("tcp:127.0.0.1:0").of_machine(0, 2), Ok(address("tcp:127.0.0.1:0")));
    }
}
