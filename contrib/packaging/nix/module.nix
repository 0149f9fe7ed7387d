# A module for NixOS:
#
#   imports = [ .../contrib/packaging/nix/module.nix ];
#   services.knockd = {
#     enable = true;
#     interface = "auto";
#     settings.options.Guard = "yes";
#     settings.ssh = { Sequence = "38281,29374,4921,54918"; Open = "tcp/22"; };
#   };
#
# What is in `settings` can be read by every user of the machine, as everything in the Nix
# store. To keep the sequences secret, write them to a file and name it in `configFile`.
{ config, lib, pkgs, ... }:

let
  cfg = config.services.knockd;
  generated = pkgs.writeText "knockd.conf"
    (lib.generators.toINI { listsAsDuplicateKeys = true; } cfg.settings);
  file = if cfg.configFile != null then cfg.configFile else generated;
in
{
  options.services.knockd = {
    enable = lib.mkEnableOption "knockd, the port-knock daemon";
    package = lib.mkOption {
      type = lib.types.package;
      default = import ./default.nix { inherit pkgs; };
      description = "The package to use.";
    };
    interface = lib.mkOption {
      type = lib.types.str;
      default = "auto";
      description = "The interfaces at which knocks arrive, see knockd(1).";
    };
    settings = lib.mkOption {
      type = lib.types.attrsOf (lib.types.attrsOf (lib.types.oneOf [ lib.types.str lib.types.int ]));
      default = { };
      description = "The sections of knockd.conf. Every user of the machine can read them.";
    };
    configFile = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      description = "A knockd.conf outside of the Nix store, instead of settings.";
    };
    path = lib.mkOption {
      type = lib.types.listOf lib.types.package;
      default = [ pkgs.nftables pkgs.iptables ];
      description = "Packages whose programs the commands of doors use.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    systemd.services.knockd = {
      description = "Port-knock daemon";
      documentation = [ "man:knockd(1)" ];
      after = [ "network.target" ];
      wantedBy = [ "multi-user.target" ];
      path = cfg.path;
      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = "${cfg.package}/bin/knockd -i ${cfg.interface} -c ${file}";
        ExecReload = [
          # Standard output has the sequences, which are for nobody's journal.
          "${pkgs.runtimeShell} -c '${cfg.package}/bin/knockd --check -c ${file} >/dev/null'"
          "${pkgs.coreutils}/bin/kill -HUP $MAINPID"
        ];
        Restart = "on-failure";
        RestartSec = 5;
        KillMode = "process";
        TimeoutStopSec = 20;
        TasksMax = 1024;
        StateDirectory = "knockd";
        StateDirectoryMode = "0700";
        CapabilityBoundingSet = [
          "CAP_NET_RAW" "CAP_NET_ADMIN" "CAP_SYS_MODULE" "CAP_SETUID" "CAP_SETGID" "CAP_SETPCAP" "CAP_SYS_CHROOT"
        ];
        NoNewPrivileges = true;
        ProtectSystem = true;
        ProtectHome = "read-only";
        PrivateDevices = true;
        PrivateMounts = true;
        LockPersonality = true;
        RestrictAddressFamilies = [ "AF_UNIX" "AF_INET" "AF_INET6" "AF_NETLINK" "AF_PACKET" ];
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
      };
    };
  };
}
