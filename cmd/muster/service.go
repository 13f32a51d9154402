package main

import (
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
)

// service is what the verbs that run until they are ended have in common: a log, clients
// of one Redis, and metrics.
type service struct {
	log     *logrus.Logger
	logged  func()
	at      redisAt
	connect dial
	clients []redis.UniversalClient
	metrics *meter
}

// service opens the log, makes sure that Redis answers and can be worked with, and takes
// the address of the metrics, which is a setting of the group that the verb has.
func (a *app) service(c *cli.Context) (*service, error) {
	log, logged, err := a.log(c)
	if err != nil {
		return nil, err
	}
	at := a.redisAt(c)
	connect, err := openFit(c.Context, at, log)
	if err != nil {
		logged()
		return nil, err
	}
	metrics, err := a.openMetrics(c, c.Command.Name, log, connect)
	if err != nil {
		logged()
		return nil, err
	}
	return &service{log: log, logged: logged, at: at, connect: connect, metrics: metrics}, nil
}

// client makes a client that lives as long as the service.
func (s *service) client() redis.UniversalClient {
	rdb := s.connect(often)
	s.clients = append(s.clients, rdb)
	s.metrics.watch(rdb)
	return rdb
}

// close ends the metrics, and closes the clients and the log. It is called when nothing
// uses them any more.
func (s *service) close() {
	s.metrics.close()
	for _, rdb := range s.clients {
		rdb.Close()
	}
	s.logged()
}
