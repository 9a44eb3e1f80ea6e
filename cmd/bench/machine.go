package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machine is what a number depends on.
type machine struct {
	CPU        string    `json:"cpu"`
	Cores      int       `json:"cores"`
	Memory     string    `json:"memory"`
	Dir        string    `json:"dir"` // where benchmarks write: TMPDIR
	Filesystem string    `json:"filesystem"`
	Go         string    `json:"go"`
	Commit     string    `json:"commit"`
	At         time.Time `json:"at"`
}

const unknown = "unknown"

func thisMachine(ctx context.Context) machine {
	dir := os.TempDir()
	return machine{
		CPU:        procValue("/proc/cpuinfo", "model name"),
		Cores:      runtime.NumCPU(),
		Memory:     memory(),
		Dir:        dir,
		Filesystem: filesystem(dir),
		Go:         runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		Commit:     commit(ctx),
		At:         time.Now().UTC().Truncate(time.Second),
	}
}

// procValue reads the first "key : value" of a file under /proc.
func procValue(path, key string) string {
	f, err := os.Open(path)
	if err != nil {
		return unknown
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		k, v, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return unknown
}

func memory() string {
	kib, err := strconv.ParseInt(strings.TrimSuffix(procValue("/proc/meminfo", "MemTotal"), " kB"), 10, 64)
	if err != nil {
		return unknown
	}
	return fmt.Sprintf("%.1f GiB", float64(kib)/(1<<20))
}

// filesystem names what the folder lies on; a durable write to memory is none.
func filesystem(dir string) string {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return unknown
	}
	names := map[int64]string{
		0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x2fc12fc1: "zfs", 0x794c7630: "overlayfs",
		0x01021994: "tmpfs (memory: durable writes cost nothing here)", 0x6969: "nfs", 0x01021997: "9p",
	}
	if name := names[int64(s.Type)]; name != "" {
		return name
	}
	return fmt.Sprintf("filesystem %#x", s.Type)
}

func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*").Output()
	if err != nil {
		return unknown
	}
	return strings.TrimSpace(string(out))
}
