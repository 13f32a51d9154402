package dashboard

import (
	"net/http"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// A Redis that refuses is not one that is away: who watches is told what it says.
func TestReadySaysWhatRedisRefuses(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	redistest.Eventually(t, "it is ready", func() bool { return s.Ready(t.Context()) == nil })
	s.must(s.rdb.Set(t.Context(), tasks.KeyOnline, "no hash", 0).Err())
	redistest.Eventually(t, "the refusal is told", func() bool {
		err := s.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "redis refuses: {muster}:online is a string and not a hash")
	})
	if got := s.get("/", http.StatusOK).region("redis"); got != "{muster}:online is a string and not a hash: Redis refuses to read it. What comes from it is missing here, or old." {
		t.Errorf("banner %q", got)
	}
	s.must(s.rdb.Del(t.Context(), tasks.KeyOnline).Err())
	s.eventually("/", "no banner", func(p *page) bool { return p.region("redis") == "" })
}
