package main

import (
	"errors"
	"fmt"

	"github.com/musterhq/muster/tasks"
)

// status is how the process ends.
type status int

const (
	statusOK        status = 0 // every host done
	statusFailure   status = 1 // it could not be carried out
	statusUsage     status = 2 // the words, the settings or the request are wrong
	statusCommand   status = 3 // a command failed on some host
	statusAbsent    status = 4 // some host is offline, unanswered or missing
	statusTime      status = 5 // time ran out
	statusCancelled status = 6
	statusRefused   status = 7 // not confirmed, not allowed
)

// worst returns the one that is said where several apply.
func worst(all ...status) status {
	for _, first := range []status{
		statusFailure, statusUsage, statusRefused, statusCancelled, statusTime, statusCommand, statusAbsent,
	} {
		for _, s := range all {
			if s == first {
				return s
			}
		}
	}
	return statusOK
}

// statusOfLedger is what the ends of a set's hosts come to. Hosts that are still
// open say nothing. A set that was cancelled says so, unless every host was done all
// the same.
func statusOfLedger(l tasks.Ledger) status {
	var all []status
	for state, s := range map[tasks.State]status{
		tasks.Failed: statusCommand, tasks.Cancelled: statusCancelled, tasks.Expired: statusTime,
		tasks.Offline: statusAbsent, tasks.Missing: statusAbsent, tasks.Unanswered: statusAbsent,
	} {
		if l.Counts[state] > 0 {
			all = append(all, s)
		}
	}
	if l.Stage == tasks.Closed && l.Total == 0 { // every host online, and there was none
		all = append(all, statusAbsent)
	}
	if !l.Cancelled.IsZero() && (l.Total == 0 || l.Counts[tasks.Done] < l.Total) {
		all = append(all, statusCancelled)
	}
	return worst(all...)
}

// verdict is an error that knows its exit status. With a nil err everything has been
// said, and only the status is left.
type verdict struct {
	status status
	err    error
}

func (v *verdict) Error() string {
	if v.err == nil {
		return fmt.Sprintf("exit status %d", v.status)
	}
	return v.err.Error()
}

func (v *verdict) Unwrap() error { return v.err }

// ends returns the error that ends the process with s and no further word, nil for
// statusOK.
func ends(s status) error {
	if s == statusOK {
		return nil
	}
	return &verdict{status: s}
}

// failf is an error that ends the process with s.
func failf(s status, format string, args ...any) error {
	return &verdict{s, fmt.Errorf(format, args...)}
}

// misuse is failf for words and settings that are wrong.
func misuse(format string, args ...any) error { return failf(statusUsage, format, args...) }

// read parts an error into the exit status and what is to be said, "" for nothing.
func read(err error) (status, string) {
	if err == nil {
		return statusOK, ""
	}
	var v *verdict
	if errors.As(err, &v) {
		if v.err == nil {
			return v.status, ""
		}
		return v.status, err.Error()
	}
	var invalid *tasks.InvalidError
	if errors.As(err, &invalid) {
		return statusUsage, err.Error()
	}
	return statusFailure, err.Error()
}
