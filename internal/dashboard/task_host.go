package dashboard

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/musterhq/muster/tasks"
)

// taskHostPage is what one host has done of a set.
type taskHostPage struct {
	Number   tasks.Number
	Host     string
	Progress tasks.Progress
	Outputs  hostOutputs
}

// hostOutputs is a page of the results of one host, whole.
type hostOutputs struct {
	Broken   []broken // keys that can't be read
	Progress tasks.Progress
	Commands int
	Results  []hostResult
	Pages    paging
	Reading  bool
	Full     bool
}

// hostResult is how a command ended.
type hostResult struct {
	Result tasks.Result
	Failed bool
	Stdout shown
	Stderr shown
}

// taskHostPage answers /tasks/KEY/hosts/HOST.
func (s *Server) taskHostPage(w http.ResponseWriter, r *http.Request) {
	l, ok := s.headOfPage(w, r)
	if !ok {
		return
	}
	host := r.PathValue("host")
	progress, err := s.store.Progress(r.Context(), l.Number, []string{host})
	if err != nil {
		s.failWith(w, r, err)
		return
	}
	odd := s.broken(r.Context(), append(setPlaces(l.Number), completeOf(l.Number, host)))
	unsure := slices.ContainsFunc(odd, func(b broken) bool { return b.Key == tasks.KeyHosts(l.Number) })
	if progress[0].State == "" && !unsure {
		s.notThere(w, r, "results:"+string(l.Number), fmt.Sprintf("%s is not a host of %s", clip(host, 128), l.Number))
		return
	}
	p := taskHostPage{Number: l.Number, Host: host, Progress: progress[0]}
	p.Outputs, err = s.hostOutputs(r, l, p.Progress)
	p.Outputs.Broken = odd
	if err != nil {
		s.failWith(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "taskhost", view{
		Title: host + " · " + string(l.Number), Here: "/tasks", Live: "results:" + string(l.Number), Data: p,
	})
}

func (s *Server) hostOutputs(r *http.Request, l tasks.Ledger, progress tasks.Progress) (hostOutputs, error) {
	if !progress.State.Open() {
		progress.Working = ""
	}
	p := hostOutputs{Progress: progress, Commands: l.Commands}
	var ids []string
	err := s.looks.at(l, func(k *look) error {
		if err := passing(k.outputs.advance(r.Context(), s.store, l.Number, lookMay)); err != nil {
			return err
		}
		p.Reading, p.Full = !k.outputs.complete, k.outputs.full
		k.outputs.ended(progress.Host, func(ref resultRef, _ *group) { ids = append(ids, ref.id()) })
		return nil
	})
	if err != nil {
		return p, err
	}
	slices.Reverse(ids) // in the order in which they ended
	page := min(pageOf(r.URL.Query()), pagesOf(len(ids), hostPage))
	part := ids[(page-1)*hostPage : min(page*hostPage, len(ids))]
	p.Pages = pagingOf("results", page, hostPage, len(ids), len(part), func(n int) string {
		return address(resultsPath(l.Number, progress.Host), "page", pageWord(n))
	})
	results, err := s.store.ResultsAt(r.Context(), l.Number, part)
	if err != nil {
		return p, err
	}
	for _, res := range results {
		if res.ID == "" {
			continue
		}
		p.Results = append(p.Results, hostResult{
			Result: res, Failed: res.ExitCode != 0 || res.Error != "",
			Stdout: showOutput(res.Stdout, res.StdoutBytes, len(res.Stdout)),
			Stderr: showOutput(res.Stderr, res.StderrBytes, len(res.Stderr)),
		})
	}
	return p, nil
}
