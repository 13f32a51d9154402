package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// The group redis of the file is a URL, or an object. An object becomes a URL as well,
// so that there is one way to a client. What TLS needs besides has parameters of its own
// in it, which parseRedis takes out again.

// tlsFiles is what redis.tls of the file says.
type tlsFiles struct {
	On                        bool
	CA, Cert, Key, ServerName string
	AnyServer                 bool // the server need not prove who it is
}

// Names of the parameters of a URL, and of the members of redis.tls.
const (
	tlsCA, tlsCert, tlsKey, tlsServerName, tlsAnyServer = "ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"
	tlsPrefix                                           = "tls_" // of the parameters
	skipVerify                                          = "skip_verify"
)

// asTLS reads redis.tls.
func (n node) asTLS() (any, error) {
	if on, ok := n.value.(bool); ok {
		return tlsFiles{On: on}, nil
	}
	if n.members == nil {
		return nil, errors.New("want true, false or an object")
	}
	t := tlsFiles{On: true}
	for _, m := range n.members {
		to := map[string]*string{tlsCA: &t.CA, tlsCert: &t.Cert, tlsKey: &t.Key, tlsServerName: &t.ServerName}[m.name]
		text, isText := m.node.value.(string)
		yes, isBool := m.node.value.(bool)
		switch {
		case to != nil && isText:
			*to = text
		case to != nil:
			return nil, wrongf("%s: want a string", m.name)
		case m.name == tlsAnyServer && isBool:
			t.AnyServer = yes
		case m.name == tlsAnyServer:
			return nil, wrongf("%s: want true or false", m.name)
		default:
			known := []string{tlsCA, tlsCert, tlsKey, tlsServerName, tlsAnyServer}
			if near := nearest(m.name, known); near != "" {
				return nil, wrongf("%s: there is no such setting, is %s meant?", clipped(m.name), near)
			}
			return nil, wrongf("%s: there is no such setting; there are %s", clipped(m.name), strings.Join(known, ", "))
		}
	}
	return t, nil
}

func (t tlsFiles) written() any {
	if t == (tlsFiles{On: t.On}) {
		return t.On
	}
	return map[string]any{tlsCA: t.CA, tlsCert: t.Cert, tlsKey: t.Key, tlsServerName: t.ServerName, tlsAnyServer: t.AnyServer}
}

func canTLS(value any) error {
	t, _ := value.(tlsFiles)
	_, err := t.config(&tls.Config{MinVersion: tls.VersionTLS12})
	return err
}

// config is base with what t says. The files are read here.
func (t tlsFiles) config(base *tls.Config) (*tls.Config, error) {
	cfg := base.Clone()
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, wrongf("%s: %w", tlsCA, err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, wrongf("%s: no certificate in %s", tlsCA, t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, wrongf("%s and %s go together", tlsCert, tlsKey)
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, wrongf("%s, %s: %w", tlsCert, tlsKey, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if t.ServerName != "" {
		cfg.ServerName = t.ServerName
	}
	cfg.InsecureSkipVerify = cfg.InsecureSkipVerify || t.AnyServer
	return cfg, nil
}

// takeTLS takes out of a URL what the Redis client does not know.
func takeTLS(u *url.URL) (t tlsFiles, err error) {
	q := u.Query()
	for name, to := range map[string]*string{tlsCA: &t.CA, tlsCert: &t.Cert, tlsKey: &t.Key, tlsServerName: &t.ServerName} {
		*to = q.Get(tlsPrefix + name)
		q.Del(tlsPrefix + name)
	}
	if text := q.Get(skipVerify); text != "" {
		if t.AnyServer, err = strconv.ParseBool(text); err != nil {
			return t, wrongf("%s is true or false", skipVerify)
		}
		q.Del(skipVerify)
	}
	if t != (tlsFiles{}) && u.Scheme != "rediss" && !strings.HasPrefix(u.Scheme, "rediss-") {
		return t, errors.New("parameters of TLS need rediss://, rediss-sentinel:// or rediss-cluster://")
	}
	u.RawQuery = q.Encode()
	return t, nil
}

// joinRedis makes a URL of the members of the group, which are there and right each.
func (file *settingsFile) joinRedis() error {
	v := map[string]any{}
	given := false
	for _, s := range settingsOf("redis")[1:] {
		v[s.name] = s.value
		if own, ok := file.values[s.path()]; ok {
			v[s.name], given = own, true
		}
	}
	if !given {
		return errors.New("redis: an empty object: want addrs, or a URL in its place")
	}
	addrs, _ := v["addrs"].([]string)
	user, _ := v["username"].(string)
	password, _ := v["password"].(string)
	db, _ := v["db"].(int)
	master, _ := v["master"].(string)
	security, _ := v["tls"].(tlsFiles)
	q := url.Values{}
	kind := ""
	switch {
	case master != "":
		kind = "-sentinel"
		q.Set("master_name", master)
	case len(addrs) > 1:
		kind = "-cluster"
		if db != 0 {
			return wrongf("redis.db: %d: several addrs without a master are a cluster, which has database 0 only", db)
		}
	}
	if user != "" && password == "" {
		return errors.New("redis.password: is missing, there is a username")
	}
	u := url.URL{Scheme: "redis" + kind, Host: strings.Join(addrs, ","), Path: "/" + strconv.Itoa(db)}
	if security.On {
		u.Scheme = "rediss" + kind
		for name, text := range map[string]string{tlsCA: security.CA, tlsCert: security.Cert, tlsKey: security.Key, tlsServerName: security.ServerName} {
			if text != "" {
				q.Set(tlsPrefix+name, text)
			}
		}
		if security.AnyServer {
			q.Set(skipVerify, "true")
		}
	}
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	u.RawQuery = q.Encode()
	if _, err := parseRedis(u.String()); err != nil {
		return wrongf("redis: %w", err)
	}
	file.values["redis"] = u.String()
	return nil
}

// withoutSecrets is a URL of Redis as it may be shown: with the user's name, if a
// password stands behind it, and with *** for what is secret.
func withoutSecrets(text string) string {
	u, err := splitHosts(text)
	if err != nil {
		return "***"
	}
	q := u.Query()
	hosts := strings.Join(append([]string{u.Host}, q["addr"]...), ",")
	q.Del("addr")
	for name := range q {
		if strings.Contains(name, "password") || strings.Contains(name, "username") {
			q.Set(name, "***")
		}
	}
	login := ""
	if u.User != nil {
		login = "***@"
		if _, has := u.User.Password(); has {
			login = url.User(u.User.Username()).String() + ":***@"
		}
	}
	shown := u.Scheme + "://" + login + hosts + u.Path
	if len(q) > 0 {
		shown += "?" + strings.ReplaceAll(q.Encode(), "%2A%2A%2A", "***")
	}
	return shown
}
