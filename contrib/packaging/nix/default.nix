# nix-build contrib/packaging/nix
{ pkgs ? import <nixpkgs> { } }:

pkgs.rustPlatform.buildRustPackage {
  pname = "knockd";
  version = "0.9.0";
  src = pkgs.lib.cleanSource ../../..;
  cargoLock.lockFile = ../../../Cargo.lock;
  nativeBuildInputs = [ pkgs.installShellFiles ];
  # The tests create network namespaces, which the build sandbox forbids.
  doCheck = false;
  postInstall = ''
    installManPage man/knock.1 man/knockd.1
    installShellCompletion --bash contrib/completions/*.bash
    installShellCompletion --fish contrib/completions/*.fish
    installShellCompletion --zsh contrib/completions/_*
    install -Dm755 contrib/knock_helper.sh $out/bin/knock_helper.sh
  '';
  meta = {
    description = "Port knocking: daemon and client";
    license = with pkgs.lib.licenses; [ mit asl20 ];
    platforms = pkgs.lib.platforms.unix;
    mainProgram = "knock";
  };
}
