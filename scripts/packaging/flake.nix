# For Nix: `nix build '.?dir=scripts/packaging'` in a checkout. `nixosModules.default` has the template vfio-run@.service and its
# generator too.
{
  description = "Starts a virtual machine with a graphics card of the host directly on QEMU, and gives the host back afterwards";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};
      manifest = (builtins.fromTOML (builtins.readFile ../../Cargo.toml)).package;
      vfio-run = pkgs.rustPlatform.buildRustPackage {
        pname = manifest.name;
        version = manifest.version;
        src = ../..;
        cargoLock.lockFile = ../../Cargo.lock;
        cargoBuildFlags = [ "--bin" "vfio-run" ];
        # They want a QEMU and a host of their own: scripts/test.
        doCheck = false;
        postInstall = ''
          patchShebangs scripts/packaging/files
          scripts/packaging/files $out/bin/vfio-run "" $out
        '';
        meta = {
          description = manifest.description;
          license = with pkgs.lib.licenses; [ mit asl20 ];
          platforms = [ system ];
          mainProgram = "vfio-run";
        };
      };
    in
    {
      packages.${system}.default = vfio-run;

      nixosModules.default = { pkgs, ... }: {
        environment.systemPackages = [ vfio-run pkgs.qemu_kvm ];
        systemd.packages = [ vfio-run ];
        # A unit sees no programs but those that are named; more of a host's own: `systemd.services."vfio-run@".path`.
        systemd.services."vfio-run@".path =
          [ pkgs.qemu_kvm pkgs.swtpm pkgs.passt pkgs.virtiofsd pkgs.dnsmasq pkgs.nftables pkgs.kmod ];
        systemd.generators.vfio-run-generator = "${vfio-run}/lib/systemd/system-generators/vfio-run-generator";
      };
    };
}
