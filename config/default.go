package config

import "time"

// Default is the configuration before the file is read. The keys that have no
// default are listeners, upstream.urls (or embedded) and users.bases.
func Default() *Config {
	return &Config{
		Upstream: Upstream{
			Balance:          "ordered",
			ConnectTimeout:   Duration(1500 * time.Millisecond),
			BindTimeout:      Duration(5 * time.Second),
			OperationTimeout: Duration(time.Minute),
			IdleTimeout:      Duration(time.Minute),
			ServiceLinks:     2,
			MaxLinks:         1000,
		},
		Users: Users{
			Filter:        "(objectClass=inetOrgPerson)",
			EnabledFilter: "auto",
		},
		OwnEntryAttributes: []string{"objectClass", "uid", "cn", "sn", "givenName", "displayName", "mail",
			"memberOf", "homeDirectory", "uidNumber", "gidNumber"},
		AppPasswords: AppPasswords{
			Enabled:         true,
			Accept:          true,
			Attribute:       "appPassword",
			Lookup:          "live",
			MaxStale:        Duration(day),
			Algorithm:       "sha256",
			ChosenAlgorithm: "bcrypt",
			DefaultLifetime: Duration(365 * day),
			AfterBind:       "own_entry",
			HashMemory:      256,
			MaxPerUser:      50,
			MaxLifetime:     Duration(365 * day),
			RequireExpiry:   true,
			UserChosen:      "deny",
			SelfServiceLDAP: "deny",
			VirtualEntries:  "show",
		},
		Fallback: Fallback{
			Mode:        "allow",
			TOTP:        "when_enrolled",
			Window:      Duration(15 * time.Minute),
			MaxFailures: "auto",
		},
		History: History{
			Store:     "sqlite",
			Retention: Duration(90 * day),
			Coalesce:  Duration(time.Minute),
		},
		Mail: Mail{
			TLS:       "auto",
			Language:  "en",
			Attribute: "mail",
			Timeout:   Duration(30 * time.Second),
		},
		Jobs: Jobs{
			Enabled:       true,
			RemoveExpired: true,
			RemoveAfter:   Duration(28 * day),
			Notify:        true,
			NotifyBefore:  Duration(14 * day),
			PurgeHistory:  true,
			Interval:      Duration(time.Hour),
		},
		Webhook: Webhook{Events: []string{"issued", "revoked", "expiring", "new_network", "stale_device"}},
		Portal: Portal{
			Enabled:        true,
			LoginAttribute: "mail",
			Idle:           Duration(15 * time.Minute),
			Lifetime:       Duration(8 * time.Hour),
			FreshFactor:    Duration(5 * time.Minute),
			EnrolCode:      Duration(7 * day),
			OpenID:         OpenID{Scopes: []string{"openid", "email"}, Claim: "email", Attribute: "mail", Password: true},
		},
		StateDir: "/var/lib/appbind",
		Limits: Limits{
			Connections:           10000,
			ConnectionsPerAddress: 1000,
			MessageBeforeBind:     256 << 10,
			Message:               4 << 20,
			Handshake:             Duration(5 * time.Second),
			FirstMessage:          Duration(10 * time.Second),
			MessageTime:           Duration(10 * time.Second),
			Idle:                  Duration(15 * time.Minute),
			WriteStall:            Duration(10 * time.Second),
			Drain:                 Duration(10 * time.Second),
		},
		Log: Log{Format: "text", Level: "info"},
	}
}

// DefaultListener is a listener before its keys are read. The key without a default is url.
func DefaultListener() Listener {
	return Listener{
		Cleartext:     "loopback",
		Anonymous:     "allow",
		Context:       "refuse",
		Fallback:      "inherit",
		TOTP:          "inherit",
		OnUnavailable: "result",
		Clients:       "mail_servers",
		Mode:          "0660",
	}
}
