//! What shows the guest's screen to somebody: a VNC server. The guest does not see it.
//!
//! Not here: a password, which would have to be told to the QEMU that has been started; SPICE.

use super::{
    LaunchError,
    arguments::{Line, cannot_give, escaped, number_or_zero, one_of, only},
};
use crate::xml::Element;

/// The port of a VNC server's display 0.
const FIRST_PORT: u32 = 5900;

/// How many displays are tried where the document leaves the choice.
const TRIED: u32 = 99;

/// `-vnc` of a `<graphics>`.
pub(super) fn of(line: &mut Line, device: &Element) -> Result<(), LaunchError> {
    only(device, &["type", "port", "autoport", "listen", "socket"], &["listen", "alias"])?;
    if device.attribute("type") != Some("vnc") {
        return Err(cannot_give(device, format!("a display of type {:?}", device.attribute("type"))));
    }
    let listen = device.child("listen");
    if let Some(listen) = listen {
        only(listen, &["type", "address", "socket"], &[])?;
        one_of(listen, "type", &["address", "socket"])?;
    }
    let said = |name| listen.and_then(|listen| listen.attribute(name));
    if let Some(socket) = device.attribute("socket").or(said("socket")) {
        if !socket.starts_with('/') {
            return Err(LaunchError::Relative(socket.into()));
        }
        line.option("-vnc", format!("unix:{}", escaped(socket)));
        return Ok(());
    }
    let address = device.attribute("listen").or(said("address")).unwrap_or("127.0.0.1");
    let address = match address.contains(':') {
        true => format!("[{address}]"),
        false => escaped(address),
    };
    let is_chosen = one_of(device, "autoport", &["yes", "no"])? == Some("yes")
        || matches!(device.attribute("port"), None | Some("-1"));
    if is_chosen {
        line.option("-vnc", format!("{address}:0,to={TRIED}"));
        return Ok(());
    }
    let port = number_or_zero(device, "port")?;
    let number = port.checked_sub(FIRST_PORT);
    let number = number.ok_or_else(|| cannot_give(device, format!("a VNC server at port {port}")))?;
    line.option("-vnc", format!("{address}:{number}"));
    Ok(())
}
