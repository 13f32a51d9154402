package dashboard

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"
)

// queuesRoot is where the pages of the job queue are.
const queuesRoot = "/queues"

// queuesPolicy is what the pages of the job queue may load and do, with the hashes of the
// two scripts inside them. They make style elements while they run.
const queuesPolicy = "default-src 'none'; script-src 'self'%s; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
	"connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// queues serves asynqmon, which shows the job queue and only reads. Its one page is
// changed on its way: what it would load from other sites is left out, and it gets a way
// back.
type queues struct {
	tag     string
	handler http.Handler

	mu     sync.Mutex
	page   []byte // its one page, made once
	policy string
}

// sharedRedis gives asynqmon a connection that is there already. It would be closed by
// the handler's Close, which nobody calls.
type sharedRedis struct{ rdb redis.UniversalClient }

func (s sharedRedis) MakeRedisClient() any { return s.rdb }

func newQueues(rdb redis.UniversalClient, tag string) *queues {
	return &queues{tag: tag, handler: asynqmon.New(asynqmon.Options{RootPath: queuesRoot, RedisConnOpt: sharedRedis{rdb}, ReadOnly: true})}
}

// routes are the pages of the job queue.
func (q *queues) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+queuesRoot, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, queuesRoot+"/", http.StatusMovedPermanently)
	})
	mux.Handle("GET "+queuesRoot+"/", q)
}

func (q *queues) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, queuesRoot)
	if strings.HasPrefix(path, "/api/") {
		q.handler.ServeHTTP(w, r)
		return
	}
	// It answers with its one page to whatever is none of its files.
	answer := &answer{header: http.Header{}, status: http.StatusOK}
	q.handler.ServeHTTP(answer, r)
	kind := answer.header.Get("Content-Type")
	if kind == "" {
		kind = http.DetectContentType(answer.body.Bytes())
	}
	w.Header().Set("Content-Type", kind)
	body := answer.body.Bytes()
	switch {
	case strings.HasPrefix(kind, "text/html") && answer.status == http.StatusOK:
		page, policy := q.own(body)
		w.Header().Set("Content-Security-Policy", policy)
		body = page
	case strings.HasPrefix(path, "/static/"): // the names of these files change with what is in them
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.WriteHeader(answer.status)
	w.Write(body)
}

var (
	elsewhere    = regexp.MustCompile(`<link[^>]*href="https?://[^>]*>`)
	inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)
)

// own returns the page as it is served, and its policy.
func (q *queues) own(page []byte) ([]byte, string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.page != nil {
		return q.page, q.policy
	}
	page = elsewhere.ReplaceAll(page, nil)
	head := `<link rel="stylesheet" href="/static/queues.css?` + q.tag + `"></head>`
	page = bytes.Replace(page, []byte("</head>"), []byte(head), 1)
	back := `<a class="muster-back" href="/">← muster</a><div id="root">`
	page = bytes.Replace(page, []byte(`<div id="root">`), []byte(back), 1)
	hashes := ""
	for _, script := range inlineScript.FindAllSubmatch(page, -1) {
		sum := sha256.Sum256(script[1])
		hashes += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	q.page, q.policy = page, strings.Replace(queuesPolicy, "%s", hashes, 1)
	return q.page, q.policy
}

// answer holds back what a handler answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
