# shellcheck shell=bash disable=SC2034,SC2154 # variables of Termux's build system
# The client for Termux (Android), built by its NDK, so that names are looked up as
# Android does. Fill in the sum for the release.
TERMUX_PKG_HOMEPAGE=https://crates.io/crates/knockd
TERMUX_PKG_DESCRIPTION="Port-knocking client"
TERMUX_PKG_LICENSE="MIT, Apache-2.0"
TERMUX_PKG_LICENSE_FILE="LICENSE-MIT, LICENSE-APACHE"
TERMUX_PKG_MAINTAINER="@termux"
TERMUX_PKG_VERSION=0.9.0
TERMUX_PKG_SRCURL=https://static.crates.io/crates/knockd/knockd-$TERMUX_PKG_VERSION.crate
TERMUX_PKG_SHA256=@SHA256@
TERMUX_PKG_BUILD_IN_SRC=true

termux_step_make() {
	termux_setup_rust
	cargo build --release --locked --bin knock --target "$CARGO_TARGET_NAME"
}

termux_step_make_install() {
	install -Dm700 -t "$TERMUX_PREFIX/bin" "target/$CARGO_TARGET_NAME/release/knock"
	install -Dm600 -t "$TERMUX_PREFIX/share/man/man1" man/knock.1
	install -Dm600 contrib/completions/knock.bash "$TERMUX_PREFIX/share/bash-completion/completions/knock"
	install -Dm600 contrib/completions/knock.fish "$TERMUX_PREFIX/share/fish/vendor_completions.d/knock.fish"
	install -Dm600 contrib/completions/_knock "$TERMUX_PREFIX/share/zsh/site-functions/_knock"
}
