//! Commands about what these machines do not have, or that nobody sees anything of: displays, networks, balloons,
//! the guest's keyboard and clock.
//!
//! Source: the four releases, asked.

use super::{Context, Qemu, QmpError, arguments::Arguments, not_simulated, qdev};
use crate::qobject::QObject;

impl Qemu {
    /// Carries out a command that no other part does.
    ///
    /// # Errors
    /// QEMU's; "not simulated" for one that is not known here either.
    pub(super) fn command_beside(
        &self,
        command: &str,
        arguments: Arguments<'_>,
        cx: &Context<'_>,
    ) -> Result<QObject, QmpError> {
        let refuse = |text: String| Err(QmpError::generic(text));
        match command {
            "set_link" => Err(qdev::not_found(arguments.text("name"))),
            "netdev_del" => Err(qdev::not_found(arguments.text("id"))),
            "balloon" => {
                let desc = "No balloon device has been activated".to_owned();
                Err(QmpError { class: "DeviceNotActive", desc })
            }
            "chardev-remove" | "chardev-send-break" => {
                let id = arguments.text("id");
                if !self.chardevs.has(id) {
                    refuse(format!("Chardev '{id}' not found"))
                } else if command == "chardev-remove" {
                    refuse(format!("Chardev '{id}' is busy"))
                } else {
                    Ok(QObject::empty())
                }
            }
            "screendump" => refuse("There is no console to take a screendump from".into()),
            "x-blockdev-set-iothread" => self.set_iothread(arguments, cx),
            "x-blockdev-change" => self.change_child(arguments, cx),
            "announce-self" | "rtc-reset-reinjection" | "send-key" => Ok(QObject::empty()),
            other => Err(not_simulated(&format!("command `{other}`"))),
        }
    }

    /// `x-blockdev-set-iothread`: only nodes that no device uses may be moved, and nobody sees where to.
    fn set_iothread(&self, arguments: Arguments<'_>, cx: &Context<'_>) -> Result<QObject, QmpError> {
        let name = arguments.text("node-name");
        let node = self.graph.node(name).ok_or_else(|| cx.release().node_not_found(name))?;
        let used = self.graph.device_on(&node.name).is_some();
        if used && !arguments.flag("force") {
            return Err(QmpError::generic(format!(
                "Node {name} is associated with a BlockBackend and could be in use (use force=true to override this \
                 check)"
            )));
        }
        if let Some(thread) = arguments.optional_text("iothread")
            && !self.objects.list().any(|(id, kind)| id == thread && kind == "iothread")
        {
            return Err(QmpError::generic(format!("Cannot find iothread {thread}")));
        }
        if used && arguments.optional_text("iothread").is_some() {
            return Err(QmpError::generic("Cannot change iothread of active block backend"));
        }
        Ok(QObject::empty())
    }

    /// `x-blockdev-change`: no driver here takes or gives a child.
    fn change_child(&self, arguments: Arguments<'_>, cx: &Context<'_>) -> Result<QObject, QmpError> {
        let parent = arguments.text("parent");
        self.graph.lookup(parent, cx.release())?;
        match (arguments.optional_text("child"), arguments.optional_text("node")) {
            (Some(child), _) => {
                Err(QmpError::generic(format!("Node '{parent}' does not have child '{child}'")))
            }
            (None, Some(node)) if self.graph.node(node).is_none() => {
                Err(QmpError::generic(format!("Node '{node}' not found")))
            }
            _ => Err(not_simulated("`x-blockdev-change` of such nodes")),
        }
    }
}
