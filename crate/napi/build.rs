//! Sets the linker's flags for a Node-API addon.

fn main() {
    napi_build::setup();
    // Node closes an addon with the last worker that has loaded it. OpenSSL keeps the address of our hook for as
    // long as the process lives, so the addon must remain where it is.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
