// Package deploy_test holds the ways to install muster to what they promise: Dockerfile,
// docker-compose.yml, the systemd units, and what scripts/release makes. No container is
// run: what a container would run is run as processes, on loopback addresses.
package deploy_test

const root = "../.." // of the project, seen from this package
