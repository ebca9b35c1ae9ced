//! What files are taken and refused, with what words.

mod backends;
mod every_key;
mod hostile;
mod includes;
mod no_effect;
mod values;
mod wrong;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A folder that goes away with everything in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("config-file-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// What `main.toml` comes to; errors name files relative to the folder.
    fn load(&self, environment: &Environment<'_>) -> Result<Loaded, String> {
        let folder = format!("{}/", self.0.display());
        load(&self.0.join("main.toml"), environment)
            .map_err(|errors| errors.to_string().replace(&folder, ""))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Nothing is set.
fn empty(_: &str) -> Option<String> {
    None
}

fn loaded_with(text: &str, environment: &Environment<'_>) -> Result<RunSettings, String> {
    let folder = Folder::new();
    folder.write("main.toml", text);
    folder.load(environment).map(|loaded| loaded.settings)
}

fn loaded(text: &str) -> Result<RunSettings, String> {
    loaded_with(text, &empty)
}

#[track_caller]
fn errors(text: &str) -> String {
    loaded(text).expect_err("it was taken")
}
