//! Makes sure that there is a folder to embed: without the web parts the server still builds.

use std::path::Path;

fn main() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web-demo/dist");
    if !pages.exists()
        && let Err(error) = std::fs::create_dir_all(&pages)
    {
        println!("cargo:warning=cannot create {}: {error}", pages.display());
    }
    println!("cargo:rerun-if-changed={}", pages.display());
}
