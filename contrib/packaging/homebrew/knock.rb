# The client; the daemon runs on Linux only. Fill in sha256 for the release.
class Knock < Formula
  desc "Port-knocking client"
  homepage "https://crates.io/crates/knockd"
  url "https://static.crates.io/crates/knockd/knockd-0.9.0.crate"
  sha256 "@SHA256@"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "rust" => :build

  def install
    system "tar", "--strip-components", "1", "-xzf", "knockd-0.9.0.crate" if File.exist?("knockd-0.9.0.crate")
    system "cargo", "install", "--bin", "knock", *std_cargo_args
    man1.install "man/knock.1"
    bash_completion.install "contrib/completions/knock.bash" => "knock"
    fish_completion.install "contrib/completions/knock.fish"
    zsh_completion.install "contrib/completions/_knock"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/knock -V")
    assert_match "1:tcp", shell_output("#{bin}/knock --print 127.0.0.1 1:tcp")
  end
end
