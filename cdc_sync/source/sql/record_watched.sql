        IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
            operation := 'U';
            row_key := ARRAY[{new_key}];
            IF {key_changed} THEN
                former_key := ARRAY[{old_key}];
            END IF;
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
            operation := 'I';
            row_key := ARRAY[{new_key}];
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
            operation := 'D';
            row_key := ARRAY[{old_key}];
        ELSE
            operation := 'T';
        END IF;
