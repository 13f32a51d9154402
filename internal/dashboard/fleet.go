package dashboard

import "net/http"

// fleetPage is the first page.
func (s *Server) fleetPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, "fleet", view{Title: "Fleet", Here: "/", Live: "roll news running", Data: runningPart{s.sets.Running(runningShown)}})
}
