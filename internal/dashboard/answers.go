package dashboard

import "sync"

const (
	answerSmall   = 256 << 10 // bytes; answers up to that are always sent, their number is bounded by connections
	answersWaited = 64 << 20  // bytes of larger ones that may be on their way to browsers at the same time
)

// answers bounds the memory that pages take whose browsers do not read them: the page of a
// host that has printed much is megabytes.
type answers struct {
	mu    sync.Mutex
	bytes int // of large answers on their way
}

// take reports whether an answer of so many bytes may be sent; done is to be called then.
func (a *answers) take(size int) bool {
	if size <= answerSmall {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bytes > 0 && a.bytes+size > answersWaited { // a single one may be of any size
		return false
	}
	a.bytes += size
	return true
}

// done says that an answer was sent, or was not to be.
func (a *answers) done(size int) {
	if size <= answerSmall {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes -= size
}
