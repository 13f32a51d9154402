package tasks

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
)

// Dispatchable is any value that knows its hosts, its commands and its number. What the
// methods return must not be changed while a call of Dispatch goes on.
type Dispatchable interface {
	IPList() []string                // host ids; empty: every host that is online
	DisCommands() map[string]float64 // command to priority, the highest runs first; at least one
	Key() string                     // task number; empty: one is made
}

// Info is a start for a Dispatchable, to be embedded, as a value or by pointer:
//
//	type Patch struct {
//		tasks.Info
//		version string
//	}
//
//	func (p Patch) IPList() []string                { return []string{"web-1", "web-2"} }
//	func (p Patch) DisCommands() map[string]float64 { return map[string]float64{"./patch " + p.version: 1} }
//	func (p Patch) Key() string                     { return "" }
//
// It has the three methods, and all of them have to be overridden: those of Info
// itself panic with a NotOverriddenError, which Dispatch turns into its error. So a
// forgotten IPList is never taken for an empty one, which means every host. There is
// nothing that an overriding method could ask of Info's: one that calls it fails in the
// same way.
type Info struct{}

// IPList panics: it has to be overridden.
func (Info) IPList() []string { panic(&NotOverriddenError{Method: "IPList"}) }

// DisCommands panics: it has to be overridden.
func (Info) DisCommands() map[string]float64 { panic(&NotOverriddenError{Method: "DisCommands"}) }

// Key panics: it has to be overridden, if only by a method that returns "".
func (Info) Key() string { panic(&NotOverriddenError{Method: "Key"}) }

// NotOverriddenError says that a value embeds Info and leaves one of its methods as it
// is.
type NotOverriddenError struct {
	Method string // "IPList", "DisCommands" or "Key"
	Type   string // of the value, such as "main.Patch"; empty if it is not known
}

func (e *NotOverriddenError) Error() string {
	of := "the type that embeds tasks.Info"
	if e.Type != "" {
		of = e.Type
	}
	return fmt.Sprintf("tasks: %s is not overridden by %s", e.Method, of)
}

// requestOf asks d for its request. It calls each method once.
func requestOf(d Dispatchable) (Request, error) {
	if d == nil {
		return Request{}, invalid("", "nothing to dispatch: the value is nil")
	}
	hosts, err := ask(d, "IPList", d.IPList)
	if err != nil {
		return Request{}, err
	}
	commands, err := ask(d, "DisCommands", d.DisCommands)
	if err != nil {
		return Request{}, err
	}
	key, err := ask(d, "Key", d.Key)
	if err != nil {
		return Request{}, err
	}
	if len(commands) == 0 {
		return Request{}, invalid("commands", "DisCommands returned none; that no longer means console mode, for which there is muster console")
	}
	r := Request{Key: Number(key), Commands: make([]Command, 0, len(commands))}
	if len(hosts) > 0 {
		r.Hosts = hosts
	}
	for line, priority := range commands {
		r.Commands = append(r.Commands, Command{line, priority})
	}
	return r, nil
}

// ask calls a method of d. The method is its user's: a panic in it is an error here.
func ask[T any](d Dispatchable, name string, method func() T) (answer T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = whyPanicked(d, name, p)
		}
	}()
	return method(), nil
}

// whyPanicked words what a method of d has panicked with.
func whyPanicked(d Dispatchable, method string, p any) error {
	name := strings.TrimLeft(fmt.Sprintf("%T", d), "*")
	err, _ := p.(error)
	var left *NotOverriddenError
	if errors.As(err, &left) {
		return &NotOverriddenError{left.Method, name}
	}
	var fault runtime.Error
	if errors.As(err, &fault) {
		v := reflect.ValueOf(d)
		if v.Kind() == reflect.Pointer && v.IsNil() {
			return invalid("", "nothing to dispatch: the %T is nil", d)
		}
		// A method of Info that is promoted through a nil pointer can't be called.
		if embedsNilInfo(v, 8) {
			return &NotOverriddenError{method, name}
		}
	}
	if err != nil {
		return fmt.Errorf("tasks: %s of %s panicked: %w", method, name, err)
	}
	return fmt.Errorf("tasks: %s of %s panicked: %v", method, name, p)
}

// embedsNilInfo reports whether v embeds a *Info that is nil, at most so deep: a type
// may embed pointers to itself.
func embedsNilInfo(v reflect.Value, depth int) bool {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return v.Type() == reflect.TypeFor[*Info]()
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || depth == 0 {
		return false
	}
	for i := range v.NumField() {
		if v.Type().Field(i).Anonymous && embedsNilInfo(v.Field(i), depth-1) {
			return true
		}
	}
	return false
}
