package dashboard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/visible"
)

//go:embed templates
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// regionHeader names, in a request, the one region of the page that is wanted again.
const regionHeader = "Muster-Region"

// pages are the templates, one set a page: the layout, the parts that pages share
// (templates/part-*.html), and the page itself.
type pages struct {
	version string
	tag     string // of the static files: changes when they do
	byName  map[string]*template.Template
}

// view is what the layout wants to know of a page.
type view struct {
	Title   string
	Here    string   // the entry of the menu that the page belongs to: "/", "/tasks", ...
	Live    string   // topics that the page follows, with blanks between
	Away    *outage  // Redis does not answer
	Broken  []broken // keys that all pages are made of, and that can't be read
	Failed  bool     // Redis kept it from being made: it is asked for again when Redis is back
	Awaits  bool     // what it is about is not there: it is asked for again when a topic of Live is touched
	Version string
	Tag     string
	Stamp   string // when the page was asked for, by the hub
	Data    any
}

func loadPages(version string) (*pages, error) {
	p := &pages{version: version, byName: map[string]*template.Template{}}
	sum := sha256.New()
	err := fs.WalkDir(staticFiles, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := staticFiles.ReadFile(name)
		sum.Write(b)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.tag = hex.EncodeToString(sum.Sum(nil))[:12]
	names, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		base := strings.TrimSuffix(path.Base(name), ".html")
		if base == "layout" || strings.HasPrefix(base, "part-") {
			continue
		}
		t, err := template.New(base).Funcs(functions()).ParseFS(templateFiles, "templates/layout.html", "templates/part-*.html", name)
		if err != nil {
			return nil, err
		}
		p.byName[base] = t
	}
	return p, nil
}

// functions are what templates may call.
func functions() template.FuncMap {
	f := template.FuncMap{
		"line":  visible.Line,
		"cut":   visible.Cut,
		"count": grouped[int],
		"host":  hostAddress,
		"lines": func(s string) string { return strings.Join(visible.Lines(s), "\n") },
		"clock": func(t time.Time) string { return t.UTC().Format("15:04:05") },
		"day":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
		"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	}
	maps.Copy(f, taskFunctions())
	return f
}

// hostAddress is the address of a host's page.
func hostAddress(id string) string { return "/hosts/" + url.PathEscape(id) }

// static serves the files of static/. Their address has their tag, so that a browser may
// keep them.
func (p *pages) static() http.Handler {
	files := http.FileServerFS(staticFiles)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if f, err := fs.Stat(staticFiles, name); err != nil || f.IsDir() { // no listing
			http.NotFound(w, r)
			return
		}
		if r.URL.RawQuery == p.tag {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		files.ServeHTTP(w, r)
	})
}

// stampKey is the key of the stamp in the context of a request.
type stampKey struct{}

// stamped notes when a request came: what is read for it is at least as new.
func (s *Server) stamped(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), stampKey{}, s.hub.stamp())))
	})
}

// show answers with a page, or with the one region of it that was asked for, which is the
// template "region-" and its name.
func (s *Server) show(w http.ResponseWriter, r *http.Request, status int, page string, v view) {
	name := "layout"
	t := s.pages.byName[page]
	if region := r.Header.Get(regionHeader); region != "" {
		name = "region-" + region
		if t.Lookup(name) == nil {
			http.Error(w, "no such region", http.StatusNotFound)
			return
		}
	}
	v = s.dress(v)
	v.Stamp, _ = r.Context().Value(stampKey{}).(string)
	var b bytes.Buffer // half a page is worse than none
	if err := t.ExecuteTemplate(&b, name, v); err != nil {
		s.cfg.Log.WithError(err).WithField("page", page).Error("page could not be made")
		http.Error(w, "the page could not be made; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Add("Vary", regionHeader)
	if !s.answers.take(b.Len()) {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many answers wait for browsers that do not read them", http.StatusServiceUnavailable)
		return
	}
	defer s.answers.done(b.Len())
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// region renders one region for everyone who looks at it.
func (s *Server) region(page, region string, data any) (string, error) {
	var b strings.Builder
	err := s.pages.byName[page].ExecuteTemplate(&b, "region-"+region, s.dress(view{Data: data}))
	return b.String(), err
}

// dress adds what all pages have.
func (s *Server) dress(v view) view {
	v.Version, v.Tag, v.Away, v.Broken = s.pages.version, s.pages.tag, s.contact.away(), s.contact.unreadable()
	return v
}

// fail answers with a page that says what is wrong.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, status int, text string) {
	v := view{Title: fmt.Sprint(status), Data: text}
	if v.Failed = status == http.StatusServiceUnavailable; v.Failed {
		v.Live = "failed" // which nobody touches: it follows whether Redis is away, as all do
	}
	s.show(w, r, status, "error", v)
}

// notThere answers for what may yet come: the page is asked for again when the topic is
// touched.
func (s *Server) notThere(w http.ResponseWriter, r *http.Request, topic, text string) {
	s.show(w, r, http.StatusNotFound, "error", view{Title: fmt.Sprint(http.StatusNotFound), Live: topic, Awaits: true, Data: text})
}

// failWith answers for an error of Redis, which is away or has refused. It is logged by whoever follows Redis, not once
// for each page.
func (s *Server) failWith(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		return // the browser has gone
	}
	what := "Redis does not answer: "
	if isReply(err) {
		what = "Redis refuses: "
	}
	s.fail(w, r, http.StatusServiceUnavailable, what+err.Error())
}
