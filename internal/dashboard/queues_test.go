package dashboard

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/musterhq/muster/tasks"
)

// The page of the job queue runs the scripts that its policy names, by their hash, and
// loads nothing from elsewhere.
func TestQueuesPage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if w := b.get("/queues", ""); w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != "/queues/" {
		t.Errorf("/queues: %d to %s", w.Code, w.Header().Get("Location"))
	}
	for _, url := range []string{"/queues/", "/queues/queues/dispatch?status=archived"} {
		w := b.get(url, "")
		page := parsed(t, w.Body.String()).root
		policy := w.Header().Get("Content-Security-Policy")
		if w.Code != http.StatusOK || !strings.HasPrefix(policy, "default-src 'none'; script-src 'self' 'sha256-") || w.Header().Get("X-Frame-Options") != "DENY" {
			t.Fatalf("%s: %d, policy %s", url, w.Code, policy)
		}
		if scripts, _, _ := strings.Cut(policy, "; style-src"); strings.Contains(scripts, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %s", url, policy)
		}
		inline, files := 0, 0
		for _, s := range all(page, having("script", "")) {
			if src := attribute(s, "src"); src != "" {
				files++
				if got := b.get(src, ""); got.Code != http.StatusOK || !strings.Contains(got.Header().Get("Content-Type"), "javascript") || got.Header().Get("Cache-Control") == "no-store" {
					t.Errorf("%s: %d %v", src, got.Code, got.Header())
				}
				continue
			}
			inline++
			sum := sha256.Sum256([]byte(raw(s)))
			if hash := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, hash) {
				t.Errorf("%s: a script is not in the policy: %.80s", url, raw(s))
			}
		}
		if inline != 2 || files != 2 || strings.Count(policy, "sha256") != 2 {
			t.Errorf("%s: %d inline scripts, %d files, policy %s", url, inline, files, policy)
		}
		back := false
		for _, n := range append(all(page, having("link", "")), all(page, having("a", ""))...) {
			back = back || n.Data == "a" && attribute(n, "href") == "/"
			if href := attribute(n, "href"); !strings.HasPrefix(href, "/") || strings.HasPrefix(href, "//") {
				t.Errorf("%s: %s leads to %s", url, n.Data, href)
			} else if got := b.get(href, ""); n.Data == "link" && got.Code != http.StatusOK {
				t.Errorf("%s: %s is %d", url, href, got.Code)
			}
		}
		if !back {
			t.Errorf("%s has no way back", url)
		}
	}
}

// The queue and its jobs are read on the connection that the dashboard has, and nothing
// can be done to them.
func TestQueuesAreReadOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	client := asynq.NewClientFromRedisClient(b.rdb)
	_, err := client.Enqueue(asynq.NewTask(tasks.JobType, []byte(`{"commands":"nonsense"}`)), asynq.Queue(tasks.JobQueue), asynq.TaskID("1-0"))
	b.must(err)
	var list struct{ Queues []struct{ Queue string } }
	b.must(json.Unmarshal(b.get("/queues/api/queues", "").Body.Bytes(), &list))
	if len(list.Queues) != 1 || list.Queues[0].Queue != tasks.JobQueue {
		t.Errorf("queues %+v", list)
	}
	if w := b.get("/queues/api/queues/dispatch/pending_tasks", ""); !strings.Contains(w.Body.String(), `nonsense`) {
		t.Errorf("jobs: %s", w.Body)
	}
	if w := b.get("/queues/api/redis_info", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "used_memory_human") {
		t.Errorf("redis: %d %s", w.Code, w.Body)
	}
	for _, c := range []struct{ method, url string }{
		{"POST", "/queues/api/queues/dispatch:pause"}, {"DELETE", "/queues/api/queues/dispatch/pending_tasks/1-0"},
		{"POST", "/queues/api/queues/dispatch/pending_tasks/1-0:archive"}, {"DELETE", "/queues/api/queues/dispatch"},
		{"POST", "/tasks"}, {"PUT", "/tasks/AC1"}, {"POST", "/queues/"},
	} {
		r := httptest.NewRequest(c.method, c.url, nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		b.door.ServeHTTP(w, r)
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %d", c.method, c.url, w.Code)
		}
	}
	info, err := asynq.NewInspectorFromRedisClient(b.rdb).GetQueueInfo(tasks.JobQueue)
	b.must(err)
	if info.Paused || info.Pending != 1 {
		t.Errorf("the queue is %+v", info)
	}
}
