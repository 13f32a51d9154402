package dashboard

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Large answers that nobody reads are bounded, small ones are not kept waiting by them.
func TestAnswersThatWait(t *testing.T) {
	t.Parallel()
	const large = 5 << 20
	var a answers
	n := 0
	for n < 100 && a.take(large) {
		n++
	}
	if n != answersWaited/large {
		t.Errorf("%d large answers at the same time, want %d", n, answersWaited/large)
	}
	if !a.take(answerSmall) {
		t.Error("a small one has to wait")
	}
	a.done(answerSmall)
	a.done(large)
	if !a.take(large) || a.take(large) {
		t.Error("not exactly one more fits when one is done")
	}
	for range n {
		a.done(large)
	}
	if a.bytes != 0 || !a.take(2*answersWaited) {
		t.Errorf("%d bytes are left; a single one may be of any size", a.bytes)
	}

	b := newBench(t)
	b.set("AC1", "abcdef", "web-1")
	for _, command := range []string{"a", "b", "c", "d", "e", "f"} {
		b.report(ended("AC1", "web-1", command, 0, strings.Repeat("x", 60<<10)))
	}
	for _, status := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		if w := b.get("/tasks/AC1/hosts/web-1", ""); w.Code != status {
			t.Errorf("a large page: %d, want %d", w.Code, status)
		}
		if got := b.srv.answers.bytes; got%answersWaited != 0 {
			t.Errorf("%d bytes are still on their way", got)
		}
		b.srv.answers.bytes = answersWaited
	}

	s := unasked(t)
	s.answers.bytes = answersWaited
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/", nil)
	s.show(w, r, http.StatusNotFound, "error", view{Title: strings.Repeat("x", 10), Data: "small"})
	if w.Code != http.StatusNotFound {
		t.Errorf("a small page: %d", w.Code)
	}
	if before := s.answers.bytes; before != answersWaited {
		t.Errorf("%d bytes wait, want %d", before, answersWaited)
	}
}
