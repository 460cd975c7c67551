//! What is at a path, as a whole: a file, or a folder with all that is below. What storages keep in their snapshots.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Host, Image};

/// A file, or a folder with all that is below: paths within it, that of the file or folder itself being empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    folders: Vec<Utf8PathBuf>,
    files: BTreeMap<Utf8PathBuf, Image>,
    documents: BTreeMap<Utf8PathBuf, Vec<u8>>,
}

impl Contents {
    /// Whether it is a folder with nothing in it, or nothing at all.
    pub fn is_empty(&self) -> bool {
        self.folders.len() <= 1 && self.files.is_empty() && self.documents.is_empty()
    }

    /// Takes out what is below a folder in it.
    pub(crate) fn empty(&mut self, folder: &Utf8Path) {
        let stays = |path: &Utf8PathBuf| path == folder || !path.starts_with(folder);
        self.folders.retain(stays);
        self.files.retain(|path, _| stays(path));
        self.documents.retain(|path, _| stays(path));
    }

    /// The files, by their paths within it.
    pub fn files(&self) -> impl Iterator<Item = &Utf8Path> {
        self.files.keys().chain(self.documents.keys()).map(Utf8PathBuf::as_path)
    }
}

impl Host {
    /// What is at a path; empty if there is nothing.
    pub fn contents(&self, root: &Utf8Path) -> Contents {
        let root = self.resolve(root);
        let within = |path: &str| Utf8Path::new(path).strip_prefix(&root).map(Utf8Path::to_owned).ok();
        Contents {
            folders: self.folders.iter().filter_map(|folder| within(folder)).collect(),
            files: self
                .files
                .iter()
                .filter_map(|(path, image)| Some((within(path)?, image.clone())))
                .collect(),
            documents: self
                .documents
                .iter()
                .filter_map(|(path, bytes)| Some((within(path)?, bytes.clone())))
                .collect(),
        }
    }

    /// Removes what is at a path, and all that is below.
    pub fn clear(&mut self, root: &Utf8Path) {
        let root = self.resolve(root);
        let apart = |path: &String| !Utf8Path::new(path).starts_with(&root);
        self.folders.retain(|path| apart(path));
        self.files.retain(|path, _| apart(path));
        self.documents.retain(|path, _| apart(path));
    }

    /// Puts contents at a path, in the place of what is there. The folder around it is made if need be.
    pub fn put(&mut self, root: &Utf8Path, contents: &Contents) {
        self.clear(root);
        let root = self.resolve(root);
        if let Some(folder) = root.parent() {
            self.add_folder(folder);
        }
        let at = |within: &Utf8PathBuf| if within == "" { root.clone() } else { root.join(within) };
        self.folders.extend(contents.folders.iter().map(|folder| at(folder).into_string()));
        self.files.extend(contents.files.iter().map(|(path, image)| (at(path).into_string(), image.clone())));
        self.documents
            .extend(contents.documents.iter().map(|(path, bytes)| (at(path).into_string(), bytes.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_put_elsewhere_as_a_whole() {
        let mut host = Host::new();
        host.add_folder("/a/b".into());
        host.create_new("/a/b/disk".into(), Image::raw(512)).unwrap();
        host.create_new("/ab".into(), Image::raw(1024)).unwrap();
        let contents = host.contents("/a".into());
        host.clear("/a".into());
        assert!(
            !host.exists("/a/b/disk".into()) && !host.is_folder("/a/b".into()) && host.exists("/ab".into())
        );
        host.put("/c/d".into(), &contents);
        assert!(host.exists("/c/d/b/disk".into()) && host.is_folder("/c/d/b".into()));
    }

    #[test]
    fn a_file_is_put_in_the_place_of_another() {
        let mut host = Host::new();
        host.create_new("/a".into(), Image::raw(512)).unwrap();
        host.create_new("/b".into(), Image::raw(1024)).unwrap();
        host.put("/b".into(), &host.contents("/a".into()));
        assert_eq!(host.image("/b".into()).map(Image::virtual_size), Some(512));
    }
}
